//! The fixture as a program: `fixture --listen 127.0.0.1:0 --era dual`, `fixture --stdio`, or
//! `fixture --hostile huge` for a child that misbehaves.

use std::io::Write;

use anyhow::{Context, bail};
use tests::fixture::{Era, serve_stdio, start};
use tests::hostile::{self, Behaviour};

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
            "--hostile" => {
                let behaviour = arguments.next().context("--hostile needs a value")?;
                return hostile::serve_stdio(parse_behaviour(&behaviour)?);
            }
            other => bail!("unknown argument `{other}`"),
        }
    }
    let Some(listen) = listen else { return serve_stdio(era).await };
    let server = start(era, &listen).await?;
    writeln!(std::io::stdout(), "{}", server.url())?;
    std::future::pending().await
}

fn parse_behaviour(text: &str) -> anyhow::Result<Behaviour> {
    match text {
        "hangs" => Ok(Behaviour::Hangs),
        "wrong-id" => Ok(Behaviour::WrongId),
        "bad-json" => Ok(Behaviour::BadJson),
        "endless" => Ok(Behaviour::EndlessEvents),
        "huge" => Ok(Behaviour::HugeBody),
        "goes-on" => Ok(Behaviour::GoesOn),
        "floods" => Ok(Behaviour::Floods),
        "floods-aside" => Ok(Behaviour::FloodsAside),
        "changes" => Ok(Behaviour::ChangesTools),
        "cuts-off" => Ok(Behaviour::CutsOff),
        other => bail!("unknown behaviour `{other}`"),
    }
}

fn parse_era(text: &str) -> anyhow::Result<Era> {
    match text {
        "legacy" => Ok(Era::Legacy),
        "modern" => Ok(Era::Modern),
        "dual" => Ok(Era::Dual),
        other => bail!("unknown era `{other}`: legacy, modern or dual"),
    }
}
