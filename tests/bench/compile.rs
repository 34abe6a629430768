//! One change of each kind in a large configuration, alone: what the control plane makes of it for its proxies,
//! and what a proxy does until requests see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
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

/// Of each kind.
const CHANGES: usize = 100;
/// Milliseconds that each side may take.
const MOST: Bound = Bound::AtMost(10.0);

/// What both sides take with so many tools.
pub(crate) fn run(case: &str, tools: usize) -> anyhow::Result<Vec<Finding>> {
    let mut sides = Sides::new(tools)?;
    let mut findings = Vec::new();
    for (kind, changes) in kinds(tools)? {
        let (mut building, mut applying) = (Vec::new(), Vec::new());
        for change in changes {
            let (built, applied) = sides.take(change).context(kind)?;
            building.push(milliseconds(built));
            applying.push(milliseconds(applied));
        }
        for (what, times) in
            [("build at the control plane", building), ("apply at a proxy", applying)]
        {
            let what = format!("{kind} among {tools}: {what}");
            let times = Spread::of(times).unwrap_or_default();
            findings.push(Finding::new(case, what, times, "ms", Some(MOST)));
        }
    }
    Ok(findings)
}

/// Changes of each kind.
fn kinds(tools: usize) -> anyhow::Result<[(&'static str, Vec<Change>); 3]> {
    let described = |number| sample::tool(tools / 2, &format!(" Change {number}."));
    let created = |number| sample::tool(tools + number, "");
    let deleted = |number| created(number).encode().key.context("a tool without a key");
    let deleted = (0..CHANGES).map(|number| deleted(number).map(Change::Remove));
    Ok([
        ("a tool described anew", (0..CHANGES).map(described).map(Change::Upsert).collect()),
        ("a tool created", (0..CHANGES).map(created).map(Change::Upsert).collect()),
        ("a tool deleted", deleted.collect::<anyhow::Result<_>>()?),
    ])
}

/// What the control plane keeps for its proxies, and a proxy.
struct Sides {
    ledger: Ledger,
    revision: u64,
    applier: Applier<Table>,
    current: Arc<Current>,
}

impl Sides {
    fn new(tools: usize) -> anyhow::Result<Self> {
        let mut ledger = Ledger::new("e".to_owned(), 1, sample::resources(tools)?).0;
        let current = Arc::new(Current::new(|_| ()));
        let mut applier = applier(&current);
        apply(&mut applier, &current, &ledger.update(Group::Edge, None))?;
        Ok(Self { ledger, revision: 1, applier, current })
    }

    /// How long it takes to build a change, and to apply it.
    fn take(&mut self, change: Change) -> anyhow::Result<(Duration, Duration)> {
        self.revision += 1;
        let base = self.ledger.head(Group::Edge);
        let begun = Instant::now();
        self.ledger.advance(self.revision, [change]);
        let parts = self.ledger.update(Group::Edge, Some(&base));
        let built = begun.elapsed();
        let told: usize = parts.iter().map(|part| part.upsert.len() + part.remove.len()).sum();
        ensure!(told == 1, "{told} changes are told");
        let begun = Instant::now();
        apply(&mut self.applier, &self.current, &parts)?;
        let applied = begun.elapsed();
        let table = self.current.load().filter(|it| it.position.revision == self.revision);
        ensure!(table.is_some(), "the change is not active");
        Ok((built, applied))
    }
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
