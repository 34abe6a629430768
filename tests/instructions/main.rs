//! `make instructions`: how many instructions the pure core takes, counted by callgrind, against a
//! recorded budget. Counts depend on code and compiler alone, not on what else the machine does.

mod budget;
mod cases;

use std::{
    hint::black_box,
    io::Write as _,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::{
    budget::{Budget, Verdict, this_compiler},
    cases::{CASES, Case},
};

/// The argument that makes a process the one that is counted.
const COUNTED: &str = "--counted";
/// How long a case is repeated for its time.
const TIMED: Duration = Duration::from_millis(300);

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        [] => judge(),
        ["--record"] => record(),
        [COUNTED, name] => {
            let case = CASES.iter().find(|case| case.name == name).context("no such case")?;
            let mut operation = (case.prepare)()?;
            // What is done once, such as asking the processor what it can, counts not.
            operation()?;
            measured(&mut *operation)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: instructions [--record], not {}", arguments.join(" ")),
    }
}

/// What callgrind counts, from begin to end. Its name is known to [`count`].
#[inline(never)]
fn measured(operation: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    black_box(operation)()
}

fn judge() -> anyhow::Result<ExitCode> {
    let budget = Budget::read()?;
    let mut out = std::io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    let compiler = this_compiler();
    let is_judged = budget.is_of(&compiler);
    if !is_judged {
        writeln!(
            out,
            "the budget is of {}, not of {compiler}: nothing is judged",
            budget.compiler
        )?;
        // There the compiler is pinned, so that something is.
        if std::env::var_os("CI").is_some_and(|it| !it.is_empty()) {
            writeln!(out, "CI has to install that one, or a budget of this one is recorded")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    writeln!(out, "| operation | instructions | budget | | µs |\n|---|---|---|---|---|")?;
    for case in &CASES {
        let (counted, time) = (count(case)?, time(case)?);
        let (allowed, verdict) = (budget.of(case.name), budget.judge(case.name, counted));
        let allowed = allowed.map_or_else(|| "–".to_owned(), |it| it.to_string());
        writeln!(out, "| {} | {counted} | {allowed} | {verdict} | {time:.1} |", case.name)?;
        if verdict != Verdict::Held && is_judged {
            code = ExitCode::FAILURE;
        }
    }
    if code != ExitCode::SUCCESS {
        writeln!(
            out,
            "\nA count is off its budget by more than {} %. If that is meant, `make instructions \
             ARGS=--record` and commit the new budget with the reason.",
            budget::TOLERANCE_PERCENT
        )?;
    }
    Ok(code)
}

fn record() -> anyhow::Result<ExitCode> {
    let counted: anyhow::Result<Vec<_>> =
        CASES.iter().map(|case| Ok((case.name, count(case)?))).collect();
    Budget::new(counted?).write()?;
    Ok(ExitCode::SUCCESS)
}

/// Instructions of one operation.
fn count(case: &Case) -> anyhow::Result<u64> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*measured*"])
        .arg(std::env::current_exe()?)
        .args([COUNTED, case.name])
        .output()
        .context("valgrind is missing: `.ci/deps test` installs it")?;
    let said = String::from_utf8_lossy(&run.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected :"));
    let counted = counted.with_context(|| format!("{} was not counted:\n{said}", case.name))?;
    let counted: u64 = counted.1.trim().parse()?;
    if counted == 0 || !run.status.success() {
        bail!("{} was not counted:\n{said}", case.name);
    }
    Ok(counted)
}

/// Microseconds of one operation on this machine, which judge nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds are far below 2^52")]
fn time(case: &Case) -> anyhow::Result<f64> {
    let mut operation = (case.prepare)()?;
    let (begun, mut times) = (Instant::now(), 0_u64);
    while begun.elapsed() < TIMED {
        operation()?;
        times += 1;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / times as f64)
}
