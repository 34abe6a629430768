//! The cases that exist, and what each is held to.

use super::case::{BARE, Case, Quantity, Target, Work};
use super::message::Era;

const KIB: usize = 1 << 10;

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
        list(1000),
        Case::new("rest", Work::Rest),
    ]
}

fn list(tools: usize) -> Case {
    Case {
        targets: vec![Target::at_most(Quantity::Cpu, 1.2)],
        ..Case::new(&format!("list-{tools}"), Work::List(tools))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_used_once() {
        let all = gate();
        let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
