//! `make bench`: direct, bare proxy and Lockgate in turns, the same calls, every answer checked.

mod arguments;
mod changes;
mod idle;
mod runner;
mod setup;
mod stdio;
mod streams;
mod training;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use arguments::{Options, Set};
use tests::bench::case::{Bound, Case};
use tests::bench::cases;
use tests::bench::machine::Machine;
use tests::bench::outcome::{CaseOutcome, Finding};
use tests::bench::report::Report;
use tests::bench::statistics::float;

use setup::Setup;

/// What the data plane may keep in memory when it has nothing to do.
const IDLE: Bound = Bound::AtMost(20.0);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Err(error) = run().await else { return Ok(ExitCode::SUCCESS) };
    progress(&format!("{error:#}"))?;
    Ok(ExitCode::FAILURE)
}

async fn run() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    match &options.set {
        Set::Gate => gate(&options).await,
        Set::Stdio(command) => said(&options, "stdio", stdio::run(command.clone()).await?),
        Set::Streams(count) => said(&options, "streams", streams::run(*count).await?),
        Set::Train => training::run(Setup::of_calls().await?).await,
    }
}

/// The set that is held to the targets.
async fn gate(options: &Options) -> anyhow::Result<()> {
    let cases = chosen(options, cases::gate())?;
    // Memory is given back by and by.
    let rest = if options.is_quick { Duration::from_millis(200) } else { Duration::from_secs(2) };
    let mut setup = Setup::start(rest).await?;
    let idle = float(setup.idle) / 1e6;
    let findings = vec![Finding::plain("idle", "RSS of the data plane", idle, "MB", Some(IDLE))];
    let mut outcomes = Vec::new();
    for case in &cases {
        outcomes.push(measure(&mut setup, case, options).await?);
    }
    report(options, "gate", findings, outcomes)
}

async fn measure(setup: &mut Setup, case: &Case, options: &Options) -> anyhow::Result<CaseOutcome> {
    progress(&format!("measuring {}", case.name))?;
    runner::run(setup, case, options.plan, &[]).await.with_context(|| case.name.clone())
}

/// Those that were asked for, or all.
fn chosen(options: &Options, all: Vec<Case>) -> anyhow::Result<Vec<Case>> {
    let names: Vec<_> = all.iter().map(|case| case.name.clone()).collect();
    let chosen: Vec<_> = all.into_iter().filter(|case| options.wants(&case.name)).collect();
    ensure!(!chosen.is_empty(), "no such case; there are {}", names.join(", "));
    Ok(chosen)
}

fn said(options: &Options, set: &str, findings: Vec<Finding>) -> anyhow::Result<()> {
    report(options, set, findings, Vec::new())
}

/// Prints, and writes where that was asked for.
fn report(
    options: &Options,
    set: &str,
    mut findings: Vec<Finding>,
    cases: Vec<CaseOutcome>,
) -> anyhow::Result<()> {
    findings.extend(cases.iter().flat_map(CaseOutcome::findings));
    findings.sort_by_key(|finding| finding.target.is_none());
    let report = Report {
        set: set.to_owned(),
        machine: Machine::here(),
        rounds: options.plan.rounds,
        slice: options.plan.slice.as_secs_f64(),
        findings,
        cases,
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", report.text())?;
    if let Some(directory) = &options.directory {
        // Only a whole run replaces another one.
        let part = if options.is_part() { "-part" } else { "" };
        for path in report.write(directory, &format!("{set}{part}"))? {
            writeln!(out, "wrote {}", path.display())?;
        }
    }
    Ok(())
}

fn progress(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "bench: {text}")?)
}
