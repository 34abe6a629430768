//! The fixture as a program: `fixture --listen 127.0.0.1:0 --era dual`, or `fixture --stdio`.

use std::io::Write;

use anyhow::{Context, bail};
use tests::fixture::{Era, serve_stdio, start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut era = Era::Dual;
    let mut listen = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--stdio" => listen = None,
            "--listen" => listen = Some(arguments.next().context("--listen needs an address")?),
            "--era" => era = parse_era(&arguments.next().context("--era needs a value")?)?,
            other => bail!("unknown argument `{other}`"),
        }
    }
    let Some(listen) = listen else { return serve_stdio(era).await };
    let server = start(era, &listen).await?;
    writeln!(std::io::stdout(), "{}", server.url())?;
    std::future::pending().await
}

fn parse_era(text: &str) -> anyhow::Result<Era> {
    match text {
        "legacy" => Ok(Era::Legacy),
        "modern" => Ok(Era::Modern),
        "dual" => Ok(Era::Dual),
        other => bail!("unknown era `{other}`: legacy, modern or dual"),
    }
}
