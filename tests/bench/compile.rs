//! One change in a large configuration, alone: what the control plane makes of it for its proxies,
//! and what a proxy does until requests see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use control_plane::snapshot::build::{Change, Group};
use control_plane::snapshot::ledger::Ledger;
use data_plane::snapshot::apply::{Applier, Step};
use data_plane::snapshot::current::Current;
use data_plane::snapshot::table::Table;
use proto::wire;
use tests::bench::case::Bound;
use tests::bench::outcome::Finding;
use tests::bench::statistics::Spread;
use tests::sample;

const CHANGES: u64 = 100;
/// Milliseconds that each side may take.
const MOST: Bound = Bound::AtMost(10.0);

/// What both sides take with so many tools.
pub(crate) fn run(case: &str, tools: usize) -> anyhow::Result<Vec<Finding>> {
    let mut ledger = Ledger::new("e".to_owned(), 1, sample::resources(tools)?).0;
    let current = Arc::new(Current::new(|_| ()));
    let mut applier = applier(&current);
    let whole = ledger.update(Group::Edge, None);
    apply(&mut applier, &current, &whole)?;
    let (mut building, mut applying) = (Vec::new(), Vec::new());
    for revision in 2..CHANGES + 2 {
        let base = ledger.head(Group::Edge);
        let tool = sample::tool(tools / 2, &format!(" Revision {revision}."));
        let begun = Instant::now();
        ledger.advance(revision, [Change::Upsert(tool)]);
        let parts = ledger.update(Group::Edge, Some(&base));
        building.push(milliseconds(begun.elapsed()));
        ensure!(parts.iter().map(|part| part.upsert.len()).sum::<usize>() == 1, "too much is told");
        let begun = Instant::now();
        apply(&mut applier, &current, &parts)?;
        applying.push(milliseconds(begun.elapsed()));
        let table = current.load().filter(|table| table.position.revision == revision);
        ensure!(table.is_some(), "the change is not active");
    }
    let finding = |what: &str, times: Vec<f64>| {
        let what = format!("one change in {tools} tools: {what}");
        Finding::new(case, what, Spread::of(times).unwrap_or_default(), "ms", Some(MOST))
    };
    Ok(vec![finding("build at the control plane", building), finding("apply at a proxy", applying)])
}

/// As proxies have it.
fn applier(current: &Arc<Current>) -> Applier<Table> {
    let active = Arc::clone(current);
    Applier::new(Box::new(move |resources, position, changed| {
        let before = active.load();
        Table::follow(before.as_deref(), resources, position, changed)
    }))
}

/// Until it is active and what was before is gone.
fn apply(
    applier: &mut Applier<Table>,
    current: &Current,
    parts: &[wire::Update],
) -> anyhow::Result<()> {
    for part in parts {
        if let Step::Done(done) = applier.part(part.clone())? {
            let change = done.result.map_err(|refusal| anyhow!("{refusal:?}"))?;
            current.store(Arc::new(change.table));
            return Ok(());
        }
    }
    bail!("the update has no end")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
