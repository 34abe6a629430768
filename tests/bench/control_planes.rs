//! Several control planes on one Postgres: how many changes it takes, and how soon a change is
//! active at the proxies of all of them.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use tests::bench::SECRET;
use tests::bench::outcome::Finding;
use tests::bench::statistics::float;
use tests::bench::usage::{memory, raise_file_limit};
use tests::postgres::Postgres;
use tests::world::ControlPlane;
use tokio::time::Instant;

use super::fleet::{FILES, Fleet, TOOLS, Times, settle};
use super::manager::Manager;
use super::setup::admin_token;

/// Simulated proxies of each.
const PROXIES: usize = 50;
/// Changes whose way is timed.
const CHANGES: usize = 100;
/// How long as many changes are made as can be.
const WRITING: Duration = Duration::from_secs(10);

/// One of them, with who manages it and its proxies.
struct Site {
    control: ControlPlane,
    manager: Manager,
    fleet: Fleet,
}

/// `count` of them, with simulated proxies each.
pub(crate) async fn run(case: &str, count: usize, fewer: usize) -> anyhow::Result<Vec<Finding>> {
    let (tools, changes) = (TOOLS / fewer, CHANGES / fewer.min(20));
    let proxies = PROXIES / fewer.min(10);
    raise_file_limit((count * proxies * 2) as u64 + FILES)?;
    let postgres = Postgres::start()?;
    let database = postgres.database().await?;
    let mut sites = Vec::new();
    for _ in 0..count {
        let site = Site::start(&database, proxies).await?;
        if sites.is_empty() {
            site.manager.fill(tools).await?;
        }
        sites.push(site);
    }
    for site in &mut sites {
        settle(&site.manager, &mut site.fleet).await?;
    }
    let mut findings = spread(case, &mut sites, (tools, changes)).await?;
    let time = WRITING / u32::try_from(fewer.min(10))?;
    let first = sites.first().context("no control plane")?.manager.clone();
    let all: Vec<_> = sites.iter().map(|site| site.manager.clone()).collect();
    let ways = [
        ("one writer".to_owned(), vec![first.clone()]),
        (format!("{count} writers at one control plane"), vec![first; count]),
        (format!("{count} writers, each at its own"), all),
    ];
    for (what, managers) in ways {
        let (rate, newest) = write(&managers, time).await?;
        findings.push(Finding::plain(case, &format!("changes, {what}"), rate, "/s", None));
        let begun = Instant::now();
        everywhere(&mut sites, newest).await?;
        let what = format!("the last of them active at all, {what}");
        let late = begun.elapsed().as_secs_f64() * 1e3;
        findings.push(Finding::plain(case, &what, late, "ms", None));
    }
    for (number, Site { control, fleet, .. }) in sites.iter().enumerate() {
        ensure!(fleet.lost.0 == 0, "streams were lost: {:?}", fleet.lost);
        let rss = float(memory(&[control.process().pid()])?.now) / 1e6;
        let what = format!("RSS of control plane {}", number + 1);
        findings.push(Finding::plain(case, &what, rss, "MB", None));
    }
    Ok(findings)
}

impl Site {
    async fn start(database: &str, proxies: usize) -> anyhow::Result<Self> {
        let arguments = ["--database-url", database];
        let variables = [("JWT_SECRET_KEY", SECRET), ("AUTH_ENCRYPTION_SECRET", SECRET)];
        let control = ControlPlane::start_with_variables(&arguments, &variables).await?;
        let manager = Manager::of(&control, &admin_token()?)?;
        let fleet = Fleet::join(&manager, &control, proxies).await?;
        Ok(Self { control, manager, fleet })
    }
}

/// When the last proxy of all had a revision.
async fn everywhere(sites: &mut [Site], revision: u64) -> anyhow::Result<Instant> {
    let active = try_join_all(sites.iter_mut().map(|site| site.fleet.all_at(revision))).await?;
    active.into_iter().flatten().max().context("no proxies")
}

/// Changes one after the other, at each control plane in turn.
async fn spread(
    case: &str,
    sites: &mut [Site],
    (tools, changes): (usize, usize),
) -> anyhow::Result<Vec<Finding>> {
    let managers: Vec<_> = sites.iter().map(|site| site.manager.clone()).collect();
    let count = managers.len();
    let what = format!("from a request for a change until active at all proxies of {count}");
    let mut all = Times::new(case, what)?;
    for (number, manager) in managers.iter().cycle().take(changes).enumerate() {
        let begun = Instant::now();
        let revision = manager.change(number % tools, &format!(" Change {number}.")).await?;
        all.add(everywhere(sites, revision).await?.saturating_duration_since(begun))?;
    }
    Ok(all.findings(None, None).into())
}

/// Each makes one change after the other. Gives how many a second there were, and the last
/// revision.
async fn write(managers: &[Manager], time: Duration) -> anyhow::Result<(f64, u64)> {
    let begun = Instant::now();
    let writers = managers.iter().enumerate().map(|(tool, manager)| async move {
        let mut revisions = Vec::new();
        while begun.elapsed() < time {
            let more = format!(" Change {}.", revisions.len());
            revisions.push(manager.change(tool, &more).await?);
        }
        anyhow::Ok(revisions)
    });
    let written = try_join_all(writers).await?.concat();
    let rate = float(written.len() as u64) / begun.elapsed().as_secs_f64();
    Ok((rate, written.into_iter().max().context("nothing was written")?))
}
