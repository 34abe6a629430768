//! The cases that exist, and what each is held to.

use super::case::{BARE, Bound, Case, DIRECT, Form, LOCKGATE, Quantity, Target, Work};
use super::load::Pace;
use super::message::Era;
use super::outcome::{CaseOutcome, Finding};
use super::statistics::Spread;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The Python gateway that people come from.
pub const CONTEXTFORGE: &str = "ContextForge";
/// Another gateway in Rust.
pub const AGENTGATEWAY: &str = "agentgateway";

/// What `make bench` measures.
pub fn gate() -> Vec<Case> {
    let small = |name, era| Case {
        era,
        targets: vec![Target::at_most(Quantity::Cpu, 1.35), Target::at_most(Quantity::P99, 1.5)],
        ..Case::new(name, Work::Call)
    };
    let large = |name, era| Case {
        era,
        body: 256 * KIB,
        answer: 256 * KIB,
        targets: vec![Target::at_least(Quantity::Bytes, 0.8, BARE)],
        ..Case::new(name, Work::Call)
    };
    vec![
        small("call", Era::Legacy),
        small("call-modern", Era::Modern),
        large("call-256k", Era::Legacy),
        large("call-256k-modern", Era::Modern),
        list(1000, vec![]),
        Case::new("rest", Work::Rest),
    ]
}

/// What `make bench-full` measures beside what [`gate`] does.
pub fn full() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 16, 64, 256, 1024].map(sessions).into();
    cases.extend([
        events("events", Era::Legacy),
        events("events-modern", Era::Modern),
        Case { body: 4 * KIB, answer: 4 * KIB, ..Case::new("call-4k", Work::Call) },
        huge("send-4m", 4 * MIB, 0),
        huge("receive-4m", 0, 4 * MIB),
        list(10, vec![]),
        list(100, vec![]),
        list(5000, vec![Target::of_lockgate(Quantity::Resident, Bound::AtMost(60.0))]),
        Case::new("spread-20", Work::Spread(20)),
        Case { sessions: 16, ..Case::new("cycle", Work::Cycle) },
        Case {
            changes: 50,
            targets: vec![Target::at_most(Quantity::P99, 1.5)],
            ..Case::new("changes-50", Work::Call)
        },
        rate("rate-1000", Era::Legacy),
        rate("rate-1000-modern", Era::Modern),
    ]);
    cases
}

/// What `make bench-rivals` measures: small calls, and no more sessions than all of them bear.
pub fn rivals() -> Vec<Case> {
    [16, 64]
        .map(|sessions| Case { sessions, ..Case::new(&format!("rivals-{sessions}"), Work::Call) })
        .into()
}

fn list(tools: usize, mut more: Vec<Target>) -> Case {
    // Below, what a call costs beside the list counts for more than the list.
    if tools >= 1000 {
        more.push(Target::at_most(Quantity::Cpu, 1.2));
    }
    Case { targets: more, ..Case::new(&format!("list-{tools}"), Work::List(tools)) }
}

fn sessions(sessions: usize) -> Case {
    let targets = if sessions >= 64 { vec![Target::at_most(Quantity::P99, 1.5)] } else { vec![] };
    Case { sessions, targets, ..Case::new(&format!("sessions-{sessions}"), Work::Call) }
}

fn events(name: &str, era: Era) -> Case {
    Case { era, form: Form::Events, ..Case::new(name, Work::Call) }
}

fn huge(name: &str, body: usize, answer: usize) -> Case {
    let targets = vec![
        Target::at_least(Quantity::Bytes, 0.8, BARE),
        Target::of_lockgate(Quantity::Memory, Bound::AtMost(3.0)),
    ];
    let case = Case { answer, sessions: 8, targets, ..Case::new(name, Work::Call) };
    Case { body: body.max(case.body), ..case }
}

fn rate(name: &str, era: Era) -> Case {
    let targets =
        vec![Target::at_most(Quantity::AddedP50, 1.5), Target::at_most(Quantity::AddedP99, 1.5)];
    Case { era, pace: Pace::PerSecond(1000), targets, ..Case::new(name, Work::Call) }
}

/// Whether throughput falls with the number of sessions by at most 10 % more than the bare proxy's does.
pub fn falls(outcomes: &[CaseOutcome]) -> Vec<Finding> {
    let at = |sessions: usize| {
        let name = format!("sessions-{sessions}");
        let outcome = outcomes.iter().find(|outcome| outcome.case.name == name)?;
        outcome.ratio(Quantity::Rate, BARE)
    };
    let Some(few) = at(64).map(|few| few.median) else { return Vec::new() };
    let many = [256, 1024].into_iter().filter_map(|sessions| Some((sessions, at(sessions)?)));
    many.map(|(sessions, Spread { median, low, high })| {
        let value = Spread { median: median / few, low: low / few, high: high / few };
        let what = "calls/s against the bare proxy, against that at 64 sessions".to_owned();
        let name = format!("sessions-{sessions}");
        Finding::new(&name, what, value, "x", Some(Bound::AtLeast(0.9)))
    })
    .collect()
}

/// How Lockgate compares with others that were measured in the same run.
pub fn against_rivals(outcome: &CaseOutcome) -> Vec<Finding> {
    let ours = [DIRECT, BARE, LOCKGATE];
    let rivals = outcome.ways.iter().map(|way| way.way.as_str());
    let rivals = rivals.filter(|way| !ours.contains(way));
    let compared = rivals.flat_map(|rival| {
        let (rate, per_cpu) = match rival {
            CONTEXTFORGE => (Some(Bound::AtLeast(200.0)), None),
            AGENTGATEWAY => (None, Some(Bound::AtLeast(5.0))),
            _ => (None, None),
        };
        let quantities = [
            (Quantity::Rate, rate),
            (Quantity::CallsPerCpu, per_cpu),
            (Quantity::P50, None),
            (Quantity::P99, None),
        ];
        quantities.map(|(quantity, bound)| outcome.finding(quantity, rival, bound))
    });
    compared.flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::message::FIRST_ID;

    #[test]
    fn names_are_used_once() {
        let all: Vec<_> = [gate(), full(), rivals()].concat();
        let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn calls_fit_their_size() {
        for case in [gate(), full(), rivals()].concat() {
            let address = case.address(BARE, "http://h", "t");
            let calls = address.messages.iter().filter(|message| message.tool.is_some());
            for call in calls {
                assert_eq!(call.body(FIRST_ID).len(), case.body, "{}", case.name);
            }
        }
    }
}
