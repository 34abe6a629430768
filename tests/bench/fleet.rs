//! Many proxies on one control plane: how soon a change is active at all of them, what they cost
//! it, and what becomes of them when all streams end at once.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tests::bench::SECRET;
use tests::bench::case::Bound;
use tests::bench::outcome::Finding;
use tests::bench::statistics::float;
use tests::bench::usage::{cpu_time, forget_peak, memory, raise_file_limit};
use tests::world::{ControlPlane, Proxy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::manager::Manager;
use super::progress;
use super::setup::admin_token;
use super::simulated::{Cut, News, Simulated};

/// Tools of the configuration.
pub(crate) const TOOLS: usize = 5_000;
/// Changes whose way is timed.
const CHANGES: usize = 100;
/// Proxies that join at the same time.
const JOINING: usize = 32;
/// What proxies have told and nobody has heard yet.
const NEWS: usize = 1 << 16;
/// How long anything may take until it has failed.
const PATIENCE: Duration = Duration::from_mins(3);
/// Descriptors besides those of the streams.
pub(crate) const FILES: u64 = 1_000;
/// What a control plane with a thousand proxies may have in memory.
const MEMORY: Bound = Bound::AtMost(400.0);

/// Milliseconds, as findings of a case.
pub(crate) struct Times<'a> {
    case: &'a str,
    what: String,
    histogram: Histogram<u64>,
}

impl<'a> Times<'a> {
    pub(crate) fn new(case: &'a str, what: String) -> anyhow::Result<Self> {
        Ok(Self { case, what, histogram: Histogram::new(3)? })
    }

    pub(crate) fn add(&mut self, time: Duration) -> anyhow::Result<()> {
        Ok(self.histogram.record(u64::try_from(time.as_micros())?)?)
    }

    pub(crate) fn findings(&self, p50: Option<Bound>, p99: Option<Bound>) -> [Finding; 2] {
        [("p50", 0.5, p50), ("p99", 0.99, p99)].map(|(name, part, bound)| {
            let value = float(self.histogram.value_at_quantile(part)) / 1e3;
            Finding::plain(self.case, &format!("{}, {name}", self.what), value, "ms", bound)
        })
    }
}

/// One with no upstreams, and somebody who manages it.
pub(crate) async fn control_plane() -> anyhow::Result<(ControlPlane, Manager)> {
    let control = ControlPlane::start_with_variables(&[], &[("JWT_SECRET_KEY", SECRET)]).await?;
    let manager = Manager::of(&control, &admin_token()?)?;
    Ok((control, manager))
}

/// Real proxies, each a process: from the request for a change until the control plane knows that
/// the last of them serves it.
pub(crate) async fn real(case: &str, count: usize, fewer: usize) -> anyhow::Result<Vec<Finding>> {
    let (tools, changes) = (TOOLS / fewer, CHANGES / fewer.min(20));
    let (control, manager) = control_plane().await?;
    manager.fill(tools).await?;
    let mut proxies: Vec<Proxy> = Vec::new();
    for _ in 0..count {
        proxies.push(control.proxy().await?);
    }
    active_at(&manager, count, manager.revision().await?).await?;
    let name = |from: &str| format!("{from} until active at {count} proxies with {tools} tools");
    let mut asked = Times::new(case, name("from a request for a change"))?;
    let mut answered = Times::new(case, name("from its answer"))?;
    let mut applied = Times::new(case, "of that the slowest proxy's work".to_owned())?;
    for number in 0..changes {
        let begun = Instant::now();
        let revision = manager.change(number % tools, &format!(" Change {number}.")).await?;
        let committed = begun.elapsed();
        let slowest = active_at(&manager, count, revision).await?;
        let whole = begun.elapsed();
        asked.add(whole)?;
        answered.add(whole.saturating_sub(committed))?;
        applied.add(slowest)?;
        sleep(Duration::from_millis(20)).await;
    }
    let (p50, p99) = (Some(Bound::AtMost(20.0)), Some(Bound::AtMost(100.0)));
    let findings =
        [asked.findings(p50, p99), answered.findings(None, None), applied.findings(None, None)];
    Ok(findings.into_iter().flatten().collect())
}

/// Waits until so many proxies have a revision; gives the time that the slowest took for it.
pub(crate) async fn active_at(
    manager: &Manager,
    count: usize,
    revision: u64,
) -> anyhow::Result<Duration> {
    let all = async {
        loop {
            let proxies = manager.proxies().await?;
            let have_it = proxies.iter().filter(|it| it.applied_revision >= revision).count();
            if have_it >= count {
                let slowest = proxies.iter().map(|it| it.apply_ms).max().unwrap_or_default();
                return anyhow::Ok(Duration::from_millis(slowest.into()));
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all).await.context("the proxies do not take a change")?
}

/// Simulated proxies that have joined.
pub(crate) struct Fleet {
    /// The revision that each has, and since when.
    active: Vec<Option<(u64, Instant)>>,
    news: mpsc::Receiver<News>,
    cut: watch::Sender<Cut>,
    /// Streams that ended by themselves, and why one did.
    pub(crate) lost: (u64, Option<String>),
    /// They end when this is dropped.
    running: JoinSet<()>,
}

impl Fleet {
    pub(crate) async fn join(
        manager: &Manager,
        control: &ControlPlane,
        count: usize,
    ) -> anyhow::Result<Self> {
        let (telling, news) = mpsc::channel(NEWS);
        let (cut, cuts) = watch::channel(Cut::Connection);
        let joining = (0..count).map(|number| {
            Simulated::join(number, manager, control.sync(), (telling.clone(), cuts.clone()))
        });
        let mut joining = stream::iter(joining).buffer_unordered(JOINING);
        let mut fleet =
            Self { active: vec![None; count], news, cut, lost: (0, None), running: JoinSet::new() };
        while let Some(proxy) = joining.try_next().await? {
            fleet.running.spawn(proxy.run());
            // Nobody starts a thousand proxies at once; what happens then is measured apart.
            while fleet.running.len() > fleet.have(0) + JOINING {
                fleet.hear().await?;
            }
        }
        Ok(fleet)
    }

    fn have(&self, revision: u64) -> usize {
        self.active.iter().flatten().filter(|(active, _)| *active >= revision).count()
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        let news = timeout(PATIENCE, self.news.recv()).await;
        let news = news.with_context(|| format!("nothing happens; lost: {:?}", self.lost))?;
        match news.context("all proxies are gone")? {
            News::Active { number, revision, at } => {
                let active = self.active.get_mut(number).context("an unknown proxy")?;
                *active = Some((revision, at));
            }
            News::Lost { number, why } => {
                self.lost = (self.lost.0 + 1, Some(format!("proxy {number}: {why}")));
            }
        }
        Ok(())
    }

    /// Waits until all have a revision; gives when each said so.
    pub(crate) async fn all_at(&mut self, revision: u64) -> anyhow::Result<Vec<Instant>> {
        let begun = Instant::now();
        while self.have(revision) < self.active.len() {
            let (have, all) = (self.have(revision), self.active.len());
            ensure!(begun.elapsed() < PATIENCE, "{have} of {all} have it; lost: {:?}", self.lost);
            self.hear().await?;
        }
        Ok(self.active.iter().flatten().map(|(_, at)| *at).collect())
    }
}

/// Simulated proxies in this process.
pub(crate) async fn simulated(
    case: &str,
    count: usize,
    fewer: usize,
) -> anyhow::Result<Vec<Finding>> {
    let (count, tools, changes) = (count / fewer.min(20), TOOLS / fewer, CHANGES / fewer.min(20));
    raise_file_limit(count as u64 * 2 + FILES)?;
    let (mut control, manager) = control_plane().await?;
    manager.fill(tools).await?;
    let begun = Instant::now();
    let mut fleet = Fleet::join(&manager, &control, count).await?;
    fleet.all_at(manager.revision().await?).await?;
    let mut findings = vec![seconds(case, &format!("{count} join, {JOINING} at a time"), begun)];
    // Their names, that is to say: each of them is told of all others.
    settle(&manager, &mut fleet).await?;
    findings.extend(spread(case, (&control, &manager), &mut fleet, (tools, changes)).await?);
    progress("all streams are cut")?;
    let begun = cut(&mut fleet, Cut::Connection)?;
    converged(&manager, &mut fleet).await?;
    findings.push(seconds(case, "all streams cut at once, until a change is active", begun));
    progress("the control plane is killed")?;
    control.kill().await;
    let begun = Instant::now();
    control.start_again().await?;
    let what = "the control plane killed, until it is there again";
    findings.push(seconds(case, what, begun));
    converged(&manager, &mut fleet).await?;
    let what = "the control plane killed, until a change is active at all";
    findings.push(seconds(case, what, begun));
    findings.extend(resident(case, &control, "after its start again")?);
    progress("all proxies lose what they have")?;
    let begun = cut(&mut fleet, Cut::Everything)?;
    converged(&manager, &mut fleet).await?;
    let what = format!("all begin at once with nothing, until {tools} tools are active");
    findings.push(seconds(case, &what, begun));
    findings.extend(resident(case, &control, "when all begin with nothing")?);
    Ok(findings)
}

/// Changes one after the other, timed.
async fn spread(
    case: &str,
    (control, manager): (&ControlPlane, &Manager),
    fleet: &mut Fleet,
    (tools, changes): (usize, usize),
) -> anyhow::Result<Vec<Finding>> {
    let pid = control.process().pid();
    let name = format!("from a request for a change until active at all {}", fleet.active.len());
    let mut all = Times::new(case, name)?;
    let mut each = Times::new(case, "the same at each".to_owned())?;
    let (lost, before) = (fleet.lost.0, cpu_time(pid)?);
    for number in 0..changes {
        let begun = Instant::now();
        let revision = manager.change(number % tools, &format!(" Change {number}.")).await?;
        let active = fleet.all_at(revision).await?;
        for at in &active {
            each.add(at.saturating_duration_since(begun))?;
        }
        all.add(active.iter().max().context("no proxies")?.saturating_duration_since(begun))?;
    }
    ensure!(fleet.lost.0 == lost, "streams were lost: {:?}", fleet.lost);
    let cpu = (cpu_time(pid)?.saturating_sub(before)).as_secs_f64() * 1e3 / float(changes as u64);
    let mut findings =
        vec![Finding::plain(case, "CPU of the control plane for a change", cpu, "ms", None)];
    findings.extend(all.findings(None, None));
    findings.extend(each.findings(None, None));
    findings.extend(resident(case, control, "with all of them")?);
    Ok(findings)
}

/// Waits until nothing new comes.
pub(crate) async fn settle(manager: &Manager, fleet: &mut Fleet) -> anyhow::Result<()> {
    loop {
        let revision = manager.revision().await?;
        fleet.all_at(revision).await?;
        sleep(Duration::from_millis(200)).await;
        if manager.revision().await? == revision {
            return Ok(());
        }
    }
}

fn cut(fleet: &mut Fleet, cut: Cut) -> anyhow::Result<Instant> {
    fleet.cut.send(cut).context("all proxies are gone")?;
    Ok(Instant::now())
}

/// Makes a change, and waits until all have it.
async fn converged(manager: &Manager, fleet: &mut Fleet) -> anyhow::Result<()> {
    let now = format!(" After {:?}.", Instant::now());
    let revision = manager.change(0, &now).await?;
    fleet.all_at(revision).await.map(drop)
}

fn seconds(case: &str, what: &str, since: Instant) -> Finding {
    Finding::plain(case, what, since.elapsed().as_secs_f64(), "s", None)
}

/// What the control plane has in memory, and had at most since this was asked last.
fn resident(case: &str, control: &ControlPlane, when: &str) -> anyhow::Result<[Finding; 2]> {
    let pids = [control.process().pid()];
    let memory = memory(&pids)?;
    forget_peak(&pids)?;
    let finding = |what: &str, bytes, bound| {
        let what = format!("{what} of the control plane {when}");
        Finding::plain(case, &what, float(bytes) / 1e6, "MB", bound)
    };
    Ok([
        finding("RSS", memory.now, Some(MEMORY)),
        finding("peak of RSS", memory.peak, Some(MEMORY)),
    ])
}
