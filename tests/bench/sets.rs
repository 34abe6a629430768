//! What is measured in one go, and what is done with the results.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::bench::case::{Bound, Case};
use tests::bench::cases;
use tests::bench::machine::Machine;
use tests::bench::outcome::{CaseOutcome, Finding};
use tests::bench::report::Report;
use tests::bench::statistics::float;
use tests::bench::usage::{memory, raise_file_limit};

use super::arguments::{Options, Programs};
use super::idle::Kind;
use super::rivals::Rival;
use super::setup::Setup;
use super::{compile, control_planes, fleet, progress, runner, start, stdio, streams};

/// What the data plane may keep in memory when it has nothing to do.
const IDLE: Bound = Bound::AtMost(20.0);
/// Clients, proxies and the upstream have a file open for each connection.
const FILES: u64 = 8_192;

/// What is measured otherwise than calls on several ways. Whoever measures something else again
/// adds a kind and what it runs.
#[derive(Clone, Copy)]
enum Other {
    Stdio,
    Streams,
    /// So many idle ones of each kind.
    Idle(usize, &'static [Kind]),
    /// So many proxies on one control plane, each a process.
    Proxies(usize),
    /// So many that only follow its configuration.
    Simulated(usize),
    /// So many control planes on one Postgres.
    ControlPlanes(usize),
    /// A proxy that starts from its disk with so many tools.
    Start(usize),
    /// One change among so many tools.
    Change(usize),
}

const OTHERS: [(&str, Other); 10] = [
    ("stdio", Other::Stdio),
    ("streams", Other::Streams),
    ("streams-20000", Other::Idle(20_000, &[Kind::Listen, Kind::Get])),
    ("proxies-10", Other::Proxies(10)),
    ("proxies-200", Other::Simulated(200)),
    ("proxies-1000", Other::Simulated(1_000)),
    ("control-planes-4", Other::ControlPlanes(4)),
    ("start-5000", Other::Start(5_000)),
    ("change-1000", Other::Change(1_000)),
    ("change-10000", Other::Change(10_000)),
];

/// The set that is held to the targets.
pub(crate) async fn gate(options: &Options) -> anyhow::Result<()> {
    let names: Vec<_> = cases::gate().into_iter().map(|case| case.name).collect();
    let cases: Vec<Case> =
        cases::gate().into_iter().filter(|case| options.wants(&case.name)).collect();
    ensure!(!cases.is_empty(), "no such case; there are {}", names.join(", "));
    // Memory is given back by and by.
    let rest = if options.is_quick { Duration::from_millis(200) } else { Duration::from_secs(2) };
    let mut setup = Setup::start(rest).await?;
    let idle = float(setup.idle) / 1e6;
    let findings = vec![Finding::plain("idle", "RSS of the data plane", idle, "MB", Some(IDLE))];
    let mut outcomes = Vec::new();
    for case in &cases {
        outcomes.push(measure(&mut setup, case, options, &[]).await?);
    }
    report(options, "gate", findings, outcomes)
}

/// All the rest, each case on programs of its own; one that fails does not keep others from running.
pub(crate) async fn full(options: &Options) -> anyhow::Result<()> {
    let (mut findings, mut outcomes) = (Vec::new(), Vec::new());
    let names: Vec<_> = cases::full().into_iter().map(|case| case.name).collect();
    let others = OTHERS.map(|(name, _)| name);
    let is_known = names.iter().map(String::as_str).chain(others).any(|name| options.wants(name));
    ensure!(is_known, "no such case; there are {}, {}", names.join(", "), others.join(", "));
    raise_file_limit(FILES)?;
    for case in cases::full().iter().filter(|case| options.wants(&case.name)) {
        match alone(case, options).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => findings.push(broken(&case.name, &error)),
        }
    }
    // In a quick run as many as show that it works.
    let fewer = if options.is_quick { 100 } else { 1 };
    for (name, other) in OTHERS.into_iter().filter(|(name, _)| options.wants(name)) {
        progress(&format!("measuring {name}"))?;
        let measured = match other {
            Other::Stdio => stdio::run(Vec::new()).await,
            Other::Streams => streams::run(streams::STREAMS / fewer).await,
            Other::Idle(count, kinds) => streams::idle(count / fewer, kinds).await,
            Other::Proxies(count) => fleet::real(name, count / fewer.min(5), fewer).await,
            Other::Simulated(count) => fleet::simulated(name, count, fewer).await,
            Other::ControlPlanes(count) => control_planes::run(name, count, fewer).await,
            Other::Start(tools) => start::run(name, tools / fewer).await,
            Other::Change(tools) => compile::run(name, tools / fewer),
        };
        match measured {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(broken(name, &error)),
        }
    }
    findings.extend(cases::falls(&outcomes));
    report(options, "full", findings, outcomes)
}

async fn alone(case: &Case, options: &Options) -> anyhow::Result<CaseOutcome> {
    let mut setup = Setup::start(Duration::ZERO).await?;
    measure(&mut setup, case, options, &[]).await
}

fn broken(case: &str, error: &anyhow::Error) -> Finding {
    let what = format!("it did not run: {error:#}");
    Finding::plain(case, &what, 1.0, "", Some(Bound::AtMost(0.0)))
}

/// Lockgate beside other gateways, on the same cores in the same run.
pub(crate) async fn rivals(options: &Options, programs: &Programs) -> anyhow::Result<()> {
    let mut setup = Setup::start(Duration::ZERO).await?;
    let upstream = setup.upstream_url();
    let mut rivals = Vec::new();
    if let Some(venv) = &programs.contextforge {
        progress("starting ContextForge (up to some minutes)")?;
        rivals.push(Rival::contextforge(venv, &upstream).await?);
    }
    if let Some(program) = &programs.agentgateway {
        progress("starting agentgateway")?;
        rivals.push(Rival::agentgateway(program, &upstream).await?);
    }
    ensure!(!rivals.is_empty(), "no rival was given");
    let (mut findings, mut outcomes) = (Vec::new(), Vec::new());
    for rival in &rivals {
        let rest = float(memory(&rival.pids())?.now) / 1e6;
        let what = format!("RSS at rest, {}", rival.name);
        findings.push(Finding::plain("rivals", &what, rest, "MB", None));
    }
    for case in cases::rivals().iter().filter(|case| options.wants(&case.name)) {
        let others: Vec<_> = rivals.iter().map(|rival| rival.way(case)).collect();
        let outcome = measure(&mut setup, case, options, &others).await?;
        findings.extend(cases::against_rivals(&outcome));
        outcomes.push(outcome);
    }
    for rival in rivals {
        rival.stop().await?;
    }
    report(options, "rivals", findings, outcomes)
}

async fn measure(
    setup: &mut Setup,
    case: &Case,
    options: &Options,
    others: &[runner::Addressed],
) -> anyhow::Result<CaseOutcome> {
    progress(&format!("measuring {}", case.name))?;
    runner::run(setup, case, options.plan(), others).await.with_context(|| case.name.clone())
}

/// Prints, and writes where that was asked for.
pub(crate) fn report(
    options: &Options,
    set: &str,
    mut findings: Vec<Finding>,
    cases: Vec<CaseOutcome>,
) -> anyhow::Result<()> {
    findings.extend(cases.iter().flat_map(CaseOutcome::findings));
    findings.sort_by_key(|finding| finding.target.is_none());
    let plan = options.plan();
    let report = Report {
        set: set.to_owned(),
        machine: Machine::here(),
        rounds: plan.rounds,
        slice: plan.slice.as_secs_f64(),
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
    // A quick run shows whether it works, and not how fast it is.
    ensure!(report.is_held() || options.is_quick, "a target was missed");
    Ok(())
}
