//! `make bench`: direct, bare proxy and Lockgate in turns, the same calls, every answer checked.

mod arguments;
mod changes;
mod compile;
mod control_planes;
mod fleet;
mod idle;
mod manager;
mod profile;
mod rivals;
mod runner;
mod sets;
mod setup;
mod simulated;
mod start;
mod stdio;
mod streams;
mod training;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Options, Set};
use setup::Setup;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Err(error) = run().await else { return Ok(ExitCode::SUCCESS) };
    progress(&format!("{error:#}"))?;
    Ok(ExitCode::FAILURE)
}

async fn run() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    match &options.set {
        Set::Gate => sets::gate(&options).await,
        Set::Full => sets::full(&options).await,
        Set::Rivals(programs) => sets::rivals(&options, programs).await,
        Set::Stdio(command) => {
            sets::report(&options, "stdio", stdio::run(command.clone()).await?, Vec::new())
        }
        Set::Streams(count) => {
            sets::report(&options, "streams", streams::run(*count).await?, Vec::new())
        }
        Set::Profile(file) => profile::run(Setup::of_calls().await?, file).await,
        Set::Train => training::run(Setup::of_calls().await?).await,
    }
}

fn progress(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "bench: {text}")?)
}
