//! Discovery: which proxy reads which catalog, and when again.

pub mod leases;
pub mod schedule;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::{
    Catalog,
    upstream::{FailureReason, Phase},
    wire,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    discovery::{
        leases::{Action, Candidate, Leases},
        schedule::{Health, Schedule},
    },
    error::Error,
    fleet::{Fleet, Host},
    registry::Registry,
    store::{Store, discoveries},
};

/// How often wishes are looked at when nobody calls.
const LOOK: Duration = Duration::from_millis(500);
/// Directives that wait for a proxy that does not read.
const QUEUE: usize = 64;

/// What a proxy found.
pub(crate) type Found = Result<Catalog, (FailureReason, String)>;

/// Gives out discoveries and takes their results. Cloning shares it.
#[derive(Clone)]
pub struct Discovery {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    registry: Registry,
    fleet: Fleet,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    leases: Leases,
    schedule: Schedule,
    reporters: HashMap<String, Reporter>,
    streams: u64,
}

struct Reporter {
    stream: u64,
    directives: mpsc::Sender<wire::Discover>,
}

/// An open stream of reports. Dropped, its leases are void.
pub(crate) struct Reporting {
    discovery: Discovery,
    proxy_id: String,
    stream: u64,
}

impl Discovery {
    pub(crate) fn new(
        store: Store,
        registry: Registry,
        fleet: Fleet,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (state, news) = (Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { store, registry, fleet, clock, state, news }) }
    }

    /// Takes a stream of reports in; the directives go to its proxy.
    pub(crate) fn report(&self, proxy_id: &str) -> (Reporting, mpsc::Receiver<wire::Discover>) {
        let (directives, inbox) = mpsc::channel(QUEUE);
        let mut state = self.inner.state.lock();
        state.streams += 1;
        let stream = state.streams;
        state.leases.lost(proxy_id);
        state.reporters.insert(proxy_id.to_owned(), Reporter { stream, directives });
        drop(state);
        self.inner.news.notify_one();
        let (discovery, proxy_id) = (self.clone(), proxy_id.to_owned());
        (Reporting { discovery, proxy_id, stream }, inbox)
    }

    /// Gives out what is wanted, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut head = self.inner.store.head().subscribe();
        let mut fleet = self.inner.fleet.subscribe();
        let mut wishes = self.inner.registry.wishes();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => (),
                Ok(()) = head.changed() => (),
                Ok(()) = fleet.changed() => (),
                Ok(()) = wishes.changed() => (),
                () = self.inner.news.notified() => (),
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot see to discoveries");
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let Inner { store, registry, clock, state, .. } = &*self.inner;
        let candidates = self.candidates();
        let known = discoveries::known(store.begin_read().await?.connection()).await?;
        let due = state.lock().schedule.due(clock.now_ms(), &known, &candidates);
        for upstream_id in due {
            registry.want_discovery(&upstream_id).await?;
        }
        let wanted = registry.wanted_discoveries().await?;
        let actions = state.lock().leases.look(clock.now_ms(), &wanted, &candidates);
        for action in actions {
            match action {
                Action::Discover { proxy_id, directive } => self.send(&proxy_id, directive),
                Action::Fail { wanted, reason, message } => {
                    let found = Err((reason, message.to_owned()));
                    self.record(&wanted.upstream_id, wanted.wanted, found).await?;
                }
            }
        }
        Ok(())
    }

    /// Proxies that follow the configuration and report.
    fn candidates(&self) -> Vec<Candidate> {
        let connected = self.inner.fleet.connected();
        let state = self.inner.state.lock();
        let reporting = connected.into_iter().filter(|(id, _)| state.reporters.contains_key(id));
        reporting
            .map(|(proxy_id, host)| Candidate { proxy_id, is_stdio_host: host == Host::Stdio })
            .collect()
    }

    /// A directive that cannot be sent is given out again when its lease ends.
    fn send(&self, proxy_id: &str, directive: wire::Discover) {
        let state = self.inner.state.lock();
        let sent = state.reporters.get(proxy_id).map(|it| it.directives.try_send(directive));
        if !matches!(sent, Some(Ok(()))) {
            tracing::debug!(proxy_id, "a discovery could not be handed over");
        }
    }

    async fn record(&self, upstream_id: &str, wanted: u64, found: Found) -> Result<(), Error> {
        let phase = if found.is_ok() { Phase::Ready } else { Phase::Failed };
        self.inner.registry.record_catalog(upstream_id, wanted, found).await?;
        self.inner.state.lock().schedule.found(upstream_id, phase);
        self.inner.news.notify_one();
        Ok(())
    }
}

impl Reporting {
    /// The result of a lease; one that is void is dropped.
    pub(crate) async fn found(&self, lease_id: &str, found: Found) -> Result<(), Error> {
        let now_ms = self.discovery.inner.clock.now_ms();
        let wanted =
            self.discovery.inner.state.lock().leases.finished(lease_id, &self.proxy_id, now_ms);
        let Some(wanted) = wanted else {
            tracing::debug!(lease_id, proxy_id = self.proxy_id, "the result of a void lease");
            return Ok(());
        };
        if let Err((reason, message)) = &found {
            let (upstream_id, reason) = (&wanted.upstream_id, reason.as_str());
            tracing::info!(upstream_id, reason, message, "a catalog could not be read");
        }
        self.discovery.record(&wanted.upstream_id, wanted.wanted, found).await
    }

    /// An upstream answers, or no longer does, as its proxy saw it.
    pub(crate) fn health(&self, upstream_id: &str, health: Health) {
        let now = self.discovery.inner.clock.now_ms();
        self.discovery.inner.state.lock().schedule.health(upstream_id, health, now);
    }

    /// The upstream's catalog has changed.
    pub(crate) fn stale(&self, upstream_id: &str) {
        let now = self.discovery.inner.clock.now_ms();
        self.discovery.inner.state.lock().schedule.stale(upstream_id, now);
        self.discovery.inner.news.notify_one();
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        let mut state = self.discovery.inner.state.lock();
        if state.reporters.get(&self.proxy_id).is_some_and(|it| it.stream == self.stream) {
            state.reporters.remove(&self.proxy_id);
            state.leases.lost(&self.proxy_id);
        }
    }
}
