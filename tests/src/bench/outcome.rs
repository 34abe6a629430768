//! What came out: rounds of each way, their ratios, and whether targets are held.

use serde::Serialize;

use super::case::{BARE, Bound, Case, DIRECT, LOCKGATE, Quantity, Target};
use super::load::Pace;
use super::statistics::{Spread, float};
use super::usage::Memory;

/// One slice of one way.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// Calls that were answered rightly.
    pub calls: u64,
    /// Calls that were not.
    pub failures: u64,
    /// How long it took.
    pub seconds: f64,
    /// CPU seconds of what is measured.
    pub cpu: f64,
    /// CPU seconds of the load generator.
    pub client_cpu: f64,
    /// Microseconds that half of the calls stay below.
    pub p50: f64,
    /// The same of 99 %.
    pub p99: f64,
    /// The same of 99.9 %.
    pub p999: f64,
}

impl Round {
    /// Calls per second.
    pub fn rate(&self) -> f64 {
        float(self.calls) / self.seconds
    }

    /// CPU microseconds per call.
    pub fn cpu_per_call(&self) -> f64 {
        self.cpu * 1e6 / float(self.calls)
    }
}

/// All slices of one way.
#[derive(Clone, Debug, Serialize)]
pub struct WayOutcome {
    /// Which way.
    pub way: String,
    /// In the order of the run: those with the same place belong together.
    pub rounds: Vec<Round>,
    /// Before the case.
    pub memory_before: Memory,
    /// At its end; the peak is that of the case.
    pub memory: Memory,
    /// How a call went wrong first.
    pub failure: Option<String>,
    /// Changes of the configuration that were made meanwhile.
    pub changes: u64,
}

impl WayOutcome {
    /// Something of all its rounds.
    pub fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of)).unwrap_or_default()
    }

    /// Which part of all cores the load generator used.
    pub fn client_share(&self, cores: usize) -> f64 {
        self.spread(|round| round.client_cpu / round.seconds / float(cores as u64)).median
    }
}

/// All ways of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseOutcome {
    /// What was measured.
    pub case: Case,
    /// Bytes of an answer as Lockgate gives it, and of a call.
    pub bytes: u64,
    /// In the order of the output.
    pub ways: Vec<WayOutcome>,
}

impl CaseOutcome {
    /// One of its ways.
    pub fn way(&self, name: &str) -> Option<&WayOutcome> {
        self.ways.iter().find(|way| way.way == name)
    }

    /// Lockgate's quantity divided by that of another way, over the rounds.
    pub fn ratio(&self, quantity: Quantity, against: &str) -> Option<Spread> {
        let (ours, theirs) = (self.way(LOCKGATE)?, self.way(against)?);
        let direct = self.way(DIRECT);
        let grown = ours.memory.peak.saturating_sub(ours.memory_before.now);
        let bodies = (self.case.sessions * self.case.larger_body()) as u64;
        match quantity {
            Quantity::Memory => return Spread::of([float(grown) / float(bodies)]),
            Quantity::Resident => return Spread::of([float(ours.memory_before.now) / 1e6]),
            Quantity::Cpu
            | Quantity::CallsPerCpu
            | Quantity::Rate
            | Quantity::Bytes
            | Quantity::P50
            | Quantity::P99
            | Quantity::AddedP50
            | Quantity::AddedP99 => {}
        }
        let rounds = ours.rounds.iter().zip(&theirs.rounds).enumerate();
        Spread::of(rounds.map(|(number, (ours, theirs))| {
            let direct = direct.and_then(|direct| direct.rounds.get(number));
            of_round(quantity, ours, direct) / of_round(quantity, theirs, direct)
        }))
    }

    /// Everything that is worth a line, judged where there are targets.
    pub fn findings(&self) -> Vec<Finding> {
        let shown = [Quantity::Cpu, Quantity::Rate, Quantity::P50, Quantity::P99];
        let judged = |quantity| self.case.targets.iter().any(|it| it.quantity == quantity);
        let compared = shown.into_iter().filter(|quantity| !judged(*quantity));
        let mut findings: Vec<Finding> =
            self.case.targets.iter().filter_map(|target| self.judge(target)).collect();
        findings.extend(compared.filter_map(|quantity| self.finding(quantity, BARE, None)));
        if matches!(self.case.pace, Pace::PerSecond(_)) {
            findings.extend([BARE, LOCKGATE].into_iter().flat_map(|way| self.added(way)));
        }
        let failed = self.ways.iter().filter(|way| way.way == LOCKGATE && way.failure.is_some());
        findings.extend(failed.map(|way| {
            let count = float(way.rounds.iter().map(|round| round.failures).sum());
            let what = format!("failed calls ({})", way.failure.as_deref().unwrap_or_default());
            Finding::plain(&self.case.name, &what, count, "", Some(Bound::AtMost(0.0)))
        }));
        findings
    }

    fn judge(&self, target: &Target) -> Option<Finding> {
        self.finding(target.quantity, target.against, Some(target.bound))
    }

    /// A comparison with another way, and what it has to give.
    pub fn finding(
        &self,
        quantity: Quantity,
        against: &str,
        bound: Option<Bound>,
    ) -> Option<Finding> {
        let value = self.ratio(quantity, against)?;
        let unit = if quantity == Quantity::Resident { "MB" } else { "x" };
        Some(Finding::new(&self.case.name, name(quantity, against), value, unit, bound))
    }

    /// Microseconds that a way adds to the direct one.
    fn added(&self, name: &str) -> Vec<Finding> {
        let Some((way, direct)) = self.way(name).zip(self.way(DIRECT)) else { return Vec::new() };
        let of = |what: &str, part: fn(&Round) -> f64| {
            let rounds = way.rounds.iter().zip(&direct.rounds);
            let value = Spread::of(rounds.map(|(own, direct)| part(own) - part(direct)))?;
            let what = format!("{what} that {name} adds");
            Some(Finding::new(&self.case.name, what, value, "µs", None))
        };
        let added = [of("p50", |round| round.p50), of("p99", |round| round.p99)];
        added.into_iter().flatten().collect()
    }
}

fn of_round(quantity: Quantity, round: &Round, direct: Option<&Round>) -> f64 {
    // What a proxy adds is no less than nothing; where it cannot be told, the round does not count.
    let added = |own: f64, direct: Option<f64>| match direct.map(|direct| own - direct) {
        Some(added) if added > 0.0 => added,
        _ => f64::NAN,
    };
    match quantity {
        Quantity::Cpu => round.cpu_per_call(),
        Quantity::CallsPerCpu => 1.0 / round.cpu_per_call(),
        // Bodies are as long on all ways but for the names of tools.
        Quantity::Rate | Quantity::Bytes => round.rate(),
        Quantity::P50 => round.p50,
        Quantity::P99 => round.p99,
        Quantity::AddedP50 => added(round.p50, direct.map(|direct| direct.p50)),
        Quantity::AddedP99 => added(round.p99, direct.map(|direct| direct.p99)),
        Quantity::Memory | Quantity::Resident => f64::NAN,
    }
}

fn name(quantity: Quantity, against: &str) -> String {
    let what = match quantity {
        Quantity::Cpu => "CPU per call",
        Quantity::CallsPerCpu => "calls per CPU second",
        Quantity::Rate => "calls/s",
        Quantity::Bytes => "bytes/s",
        Quantity::P50 => "p50",
        Quantity::P99 => "p99",
        Quantity::AddedP50 => "added p50",
        Quantity::AddedP99 => "added p99",
        Quantity::Memory => return "peak of memory per body in flight".to_owned(),
        Quantity::Resident => return "RSS of the data plane before calls".to_owned(),
    };
    let the = if against == BARE { "the " } else { "" };
    format!("{what} against {the}{against}")
}

/// One number that counts.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Where it was found.
    pub case: String,
    /// What it is.
    pub what: String,
    /// Its value; of rounds the median and the quartiles.
    pub value: Spread,
    /// Its unit; `x` for ratios.
    pub unit: &'static str,
    /// What it has to be.
    pub target: Option<Bound>,
    /// Whether it is.
    pub held: Option<bool>,
}

impl Finding {
    /// The median and the quartiles of rounds.
    pub fn new(
        case: &str,
        what: String,
        value: Spread,
        unit: &'static str,
        target: Option<Bound>,
    ) -> Self {
        let held = target.map(|target| target.holds(value.median));
        Self { case: case.to_owned(), what, value, unit, target, held }
    }

    /// A single value.
    pub fn plain(
        case: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        target: Option<Bound>,
    ) -> Self {
        let value = Spread { median: value, low: value, high: value };
        Self::new(case, what.to_owned(), value, unit, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::Work;

    fn way(name: &str, rounds: &[(f64, f64)]) -> WayOutcome {
        let rounds = rounds.iter().map(|(cpu, p99)| Round {
            calls: 1_000_000,
            seconds: 1.0,
            cpu: *cpu,
            p99: *p99,
            ..Round::default()
        });
        WayOutcome {
            way: name.to_owned(),
            rounds: rounds.collect(),
            memory_before: Memory { now: 10, peak: 10 },
            memory: Memory { now: 20, peak: 1210 },
            failure: None,
            changes: 0,
        }
    }

    fn outcome() -> CaseOutcome {
        let targets = vec![
            Target::at_most(Quantity::Cpu, 1.3),
            Target::at_least(Quantity::Cpu, 1.3, BARE),
            Target::at_most(Quantity::Memory, 3.0),
        ];
        CaseOutcome {
            case: Case { sessions: 4, body: 100, targets, ..Case::new("c", Work::Call) },
            bytes: 1,
            ways: vec![
                way(DIRECT, &[(1.0, 1.0), (1.0, 5.0), (1.0, 1.0)]),
                way(BARE, &[(10.0, 3.0), (20.0, 3.0), (10.0, 2.0)]),
                way(LOCKGATE, &[(12.0, 4.0), (24.0, 9.0), (13.0, 4.0)]),
            ],
        }
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        let cpu = outcome().ratio(Quantity::Cpu, BARE).unwrap();
        assert!((cpu.median - 1.2).abs() < 1e-9 && (cpu.high - 1.25).abs() < 1e-9, "{cpu:?}");
        // In the second round the bare proxy added less than nothing.
        let added = outcome().ratio(Quantity::AddedP99, BARE).unwrap();
        assert!((added.median - 2.25).abs() < 1e-9, "{added:?}");
    }

    #[test]
    fn targets_are_judged() {
        let findings = outcome().findings();
        let held: Vec<_> = findings.iter().filter_map(|finding| finding.held).collect();
        assert_eq!(held, [true, false, true], "{findings:?}");
        assert!(findings.iter().any(|finding| finding.target.is_none()));
    }

    #[test]
    fn failed_calls_are_no_success() {
        let mut outcome = outcome();
        outcome.ways[2].failure = Some("status 500".to_owned());
        outcome.ways[2].rounds[0].failures = 1;
        let last = outcome.findings().pop().unwrap();
        assert_eq!(last.held, Some(false), "{last:?}");
    }
}
