//! `interop`: the whole matrix through `lockgate up`; `interop --direct` without a gateway.

use std::io::Write;

use anyhow::bail;
use tests::interop::{Part, direct, through_gateway};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("--direct") => {
            let (abilities, failed) = direct().await?;
            abilities.save()?;
            let mut out = std::io::stdout().lock();
            let mut last = String::new();
            for cell in failed {
                // What a client has not it has not anywhere.
                let reason = format!("{}{:?}{:?}", cell.client, cell.transport, cell.line.error);
                if std::mem::replace(&mut last, reason.clone()) != reason {
                    writeln!(out, "- {cell}")?;
                }
            }
            writeln!(out, "direct.json is written")?;
        }
        None => {
            let report = through_gateway(Part::Whole).await?;
            writeln!(std::io::stdout(), "{report}")?;
            report.judge(Part::Whole)?;
        }
        Some(other) => bail!("unknown argument `{other}`: --direct or nothing"),
    }
    Ok(())
}
