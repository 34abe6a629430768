//! Follows the store: rebuilds what the change log names and tells the streams that there is news.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::{
    resource::{Resource, key, kind},
    upstream::Transport,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    build::{Change, Touched},
    ledger::Ledger,
};
use crate::{
    config::StdioUpstreams,
    identity::keys::{self, KeyError},
    seal::Sealer,
    store::{
        Read, Store,
        changes::{ChangedKey, changes_since},
        configuration, ended_sessions, peers, tokens,
    },
};

/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);
/// Revisions before the start that are remembered, so that proxies which lag get a delta.
const LOOK_BACK: u64 = 10_000;

/// The configuration as it is published. Cloning shares it.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    sealer: Sealer,
    stdio: StdioUpstreams,
    ledger: Mutex<Ledger>,
    head: watch::Sender<u64>,
}

impl Publisher {
    /// Builds everything once.
    pub(crate) async fn start(
        store: Store,
        sealer: Sealer,
        stdio: StdioUpstreams,
    ) -> Result<Self, KeyError> {
        let mut read = store.begin_read().await?;
        let revision = read.revision().await?;
        let resources = read_all(&mut read, &sealer, stdio).await?;
        let (mut ledger, touched) = Ledger::new(store.epoch().to_owned(), revision, resources);
        report(&touched);
        let floor = revision.saturating_sub(LOOK_BACK);
        if let Some(changes) = changes_since(&mut read, floor).await? {
            let changes = changes.into_iter().map(|it| (it.revision, resource_key(&it)));
            ledger.remember(floor, changes.collect());
        }
        let (head, _) = watch::channel(revision);
        let ledger = Mutex::new(ledger);
        Ok(Self { inner: Arc::new(Inner { store, sealer, stdio, ledger, head }) })
    }

    /// The revision that is published, now and whenever it grows.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.head.subscribe()
    }

    /// Works with the views; the lock is held meanwhile.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Ledger) -> R) -> R {
        work(&mut self.inner.ledger.lock())
    }

    /// Publishes every change, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut head = self.inner.store.head().subscribe();
        loop {
            let seen = *head.borrow_and_update();
            let wait = match self.publish().await {
                // The store may be ahead of what woke us, never behind.
                Ok(revision) if revision >= seen => None,
                Ok(_) => Some(RETRY),
                Err(error) => {
                    tracing::error!(%error, "cannot read the configuration: proxies keep the old");
                    Some(RETRY)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = head.changed() => if changed.is_err() { return },
                () = sleep(wait) => (),
            }
        }
    }

    /// Takes what changed since the published revision; gives the new one.
    async fn publish(&self) -> Result<u64, KeyError> {
        let Inner { store, sealer, stdio, ledger, head } = &*self.inner;
        let mut read = store.begin_read().await?;
        let published = ledger.lock().revision();
        let revision = read.revision().await?;
        if revision <= published {
            return Ok(revision);
        }
        let touched = if let Some(log) = changes_since(&mut read, published).await? {
            let changes = load(&mut read, (sealer, *stdio), &log).await?;
            ledger.lock().advance(revision, changes)
        } else {
            let resources = read_all(&mut read, sealer, *stdio).await?;
            ledger.lock().rebuild(revision, resources)
        };
        report(&touched);
        head.send_replace(revision);
        Ok(revision)
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Every resource of every kind.
async fn read_all(
    read: &mut Read,
    sealer: &Sealer,
    stdio: StdioUpstreams,
) -> Result<Vec<Resource>, KeyError> {
    let mut resources = configuration::read_all(read, sealer).await?.resources;
    resources.extend(tokens::resources(read.connection()).await?);
    resources.extend(keys::resources(read.connection(), sealer).await?);
    resources.extend(peers::resources(read.connection()).await?);
    resources.extend(ended_sessions::resources(read.connection()).await?);
    Ok(resources.into_iter().map(|resource| permitted(resource, stdio)).collect())
}

/// The named resources as they are now.
async fn load(
    read: &mut Read,
    (sealer, stdio): (&Sealer, StdioUpstreams),
    log: &[ChangedKey],
) -> Result<Vec<Change>, KeyError> {
    let mut loaded = configuration::load(read, sealer, log).await?;
    for changed in log {
        let id = &changed.name;
        let resource = match changed.kind.as_str() {
            kind::TOKEN => tokens::resource(read.connection(), id).await?,
            kind::KEY => keys::resource(read.connection(), sealer, id).await?,
            kind::PROXY => peers::resource(read.connection(), id).await?,
            kind::ENDED_SESSIONS => ended_sessions::resource(read.connection(), id).await?,
            _ => continue,
        };
        loaded.push((changed.clone(), resource));
    }
    let changes = loaded.into_iter().map(|(key, resource)| match resource {
        Some(resource) => Change::Upsert(permitted(resource, stdio)),
        None => Change::Remove(resource_key(&key)),
    });
    Ok(changes.collect())
}

/// A command that may not run is told as disabled.
fn permitted(mut resource: Resource, stdio: StdioUpstreams) -> Resource {
    if let Resource::Upstream(upstream) = &mut resource
        && let (Transport::Stdio(_), StdioUpstreams::Forbidden) = (&upstream.transport, stdio)
    {
        upstream.disabled = true;
    }
    resource
}

fn resource_key(changed: &ChangedKey) -> proto::wire::ResourceKey {
    key(&changed.kind, &changed.owner, &changed.name)
}

/// Use cases refuse such resources when they are written, so this is a bug, or an older program's data.
fn report(touched: &Touched) {
    for (key, invalid) in &touched.refused {
        tracing::error!(resource = %key, %invalid, "left out: no proxy could load it");
    }
}
