//! The proxies: who is connected here, what each runs, and what the store remembers of the rest.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use proto::{
    Applied, Outcome, Position,
    proxy::{Proxy, STDIO_HOST},
    resource::kind,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{
        Store, StoreError, join_tokens, peers,
        proxies::{self, StoredProxy},
    },
};

/// How often what changed is written, all proxies in one transaction.
const WRITE: Duration = Duration::from_secs(1);
/// How long a stream counts as open for other control planes without news.
const CONNECTED_MS: i64 = 30_000;
/// How often that is renewed.
const RENEW_MS: i64 = 10_000;
/// How often proxies that were not seen for long are looked for.
const FORGET_EVERY_MS: i64 = 60 * 60 * 1000;

/// All proxies. Cloning shares them.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    members: Mutex<HashMap<String, Member>>,
    streams: AtomicU64,
    /// Grows when a proxy connects or leaves.
    changes: watch::Sender<u64>,
    /// A proxy that was not seen for so long is forgotten.
    forget_after: Duration,
}

struct Member {
    stored: StoredProxy,
    /// Number of the stream that is served; none: it has left, and that is not yet written.
    stream: Option<u64>,
    superseded: CancellationToken,
    is_dirty: bool,
    /// It holds a credential, which may be taken from it by another control plane.
    is_enrolled: bool,
}

impl Member {
    fn leave(&mut self) {
        self.stream = None;
        self.stored.proxy.connected = false;
        self.stored.connected_until_ms = 0;
        self.is_dirty = true;
    }
}

/// What a proxy says of itself when it connects.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) proxy_id: String,
    pub(crate) boot_epoch: u64,
    pub(crate) version: String,
    pub(crate) capabilities: Vec<String>,
    pub(crate) advertise_address: String,
    pub(crate) position: Option<Position>,
    /// Where other proxies reach it; empty: nowhere.
    pub(crate) peer_address: String,
    /// It came with a credential: it is not the proxy in this process.
    pub(crate) is_enrolled: bool,
}

/// A stream that is served. Dropped, the proxy has left.
pub(crate) struct Membership {
    fleet: Fleet,
    proxy_id: String,
    stream: u64,
    /// Cancelled when a later stream of the same proxy takes over.
    pub(crate) superseded: CancellationToken,
    /// What it refused in this life.
    pub(crate) rejected: Option<Position>,
}

/// A later life of the same proxy is connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy `{proxy_id}` is connected in life {current}, this is life {given}")]
pub(crate) struct Superseded {
    pub(crate) proxy_id: String,
    pub(crate) current: u64,
    pub(crate) given: u64,
}

impl Fleet {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, forget_after: Duration) -> Self {
        let (changes, _) = watch::channel(0);
        let (members, streams) = (Mutex::default(), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { store, clock, members, streams, changes, forget_after }) }
    }

    /// Takes a stream in. Of two lives of one proxy the later is served, of
    /// two streams of one life the newer.
    pub(crate) async fn join(&self, hello: Hello) -> Result<Membership, Superseded> {
        let known = self.known(&hello.proxy_id).await;
        let same_life = known.filter(|it| it.proxy.boot_epoch == hello.boot_epoch);
        let mut members = self.inner.members.lock();
        if let Some(member) = members.get(&hello.proxy_id) {
            let (current, given) = (member.stored.proxy.boot_epoch, hello.boot_epoch);
            if member.stream.is_some() && current > given {
                return Err(Superseded { proxy_id: hello.proxy_id, current, given });
            }
            member.superseded.cancel();
        }
        let stream = self.inner.streams.fetch_add(1, Ordering::Relaxed);
        let superseded = CancellationToken::new();
        let rejected = same_life.as_ref().and_then(|it| it.rejected.clone());
        let stored = self.stored(&hello, same_life);
        let member = Member {
            stored,
            stream: Some(stream),
            superseded: superseded.clone(),
            is_dirty: true,
            is_enrolled: hello.is_enrolled,
        };
        members.insert(hello.proxy_id.clone(), member);
        drop(members);
        self.inner.changes.send_modify(|number| *number += 1);
        let (fleet, proxy_id) = (self.clone(), hello.proxy_id);
        Ok(Membership { fleet, proxy_id, stream, superseded, rejected })
    }

    /// What is known of a proxy; a database that fails is as good as none.
    async fn known(&self, proxy_id: &str) -> Option<StoredProxy> {
        let here = self.inner.members.lock().get(proxy_id).map(|it| it.stored.clone());
        if here.is_some() {
            return here;
        }
        let now = self.inner.clock.now_ms();
        let read = async {
            proxies::find(self.inner.store.begin_read().await?.connection(), proxy_id, now).await
        };
        let read: Result<_, StoreError> = read.await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, proxy_id, "cannot read what is known of a proxy");
            None
        })
    }

    fn stored(&self, hello: &Hello, same_life: Option<StoredProxy>) -> StoredProxy {
        let now = self.inner.clock.now_ms();
        let rejected = same_life.as_ref().and_then(|it| it.rejected.clone());
        let proxy = Proxy {
            id: hello.proxy_id.clone(),
            advertise_address: hello.advertise_address.clone(),
            version: hello.version.clone(),
            connected: true,
            applied_revision: hello.position.as_ref().map_or(0, |it| it.revision),
            rejected_revision: rejected.as_ref().map(|it| it.revision),
            rejected_errors: same_life.map(|it| it.proxy.rejected_errors).unwrap_or_default(),
            last_seen_ms: now,
            capabilities: hello.capabilities.clone(),
            apply_ms: 0,
            boot_epoch: hello.boot_epoch,
            peer_address: String::new(),
        };
        StoredProxy { proxy, rejected, connected_until_ms: now + CONNECTED_MS }
    }

    /// Every proxy that is known, connected ones as they are now, by id.
    pub async fn list(&self) -> Result<Vec<Proxy>, StoreError> {
        let now = self.inner.clock.now_ms();
        let mut read = self.inner.store.begin_read().await?;
        let stored = proxies::list_all(read.connection(), now).await?;
        let mut peers = peers::addresses(read.connection()).await?;
        let mut all: HashMap<String, Proxy> =
            stored.into_iter().map(|it| (it.proxy.id.clone(), it.proxy)).collect();
        for (id, member) in &*self.inner.members.lock() {
            let elsewhere = all.get(id).is_some_and(|it| {
                it.boot_epoch > member.stored.proxy.boot_epoch
                    || (member.stream.is_none() && it.connected)
            });
            if !elsewhere {
                all.insert(id.clone(), member.stored.proxy.clone());
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        for proxy in &mut all {
            proxy.peer_address = peers.remove(&proxy.id).unwrap_or_default();
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Proxies connected to this control plane, and whether they run stdio children.
    pub(crate) fn connected(&self) -> Vec<(String, Host)> {
        let members = self.inner.members.lock();
        let connected = members.iter().filter(|(_, member)| member.stream.is_some());
        let described = connected.map(|(id, member)| {
            let is_host = member.stored.proxy.capabilities.iter().any(|it| it == STDIO_HOST);
            (id.clone(), if is_host { Host::Stdio } else { Host::None })
        });
        described.collect()
    }

    /// Ends the streams of a proxy that is no longer trusted.
    pub(crate) fn expel(&self, proxy_id: &str) {
        if let Some(member) = self.inner.members.lock().remove(proxy_id) {
            member.superseded.cancel();
        }
        self.inner.changes.send_modify(|number| *number += 1);
    }

    /// Expels proxies whose credential another control plane has taken from them.
    async fn expel_revoked(&self) -> Result<(), StoreError> {
        let enrolled = |member: &Member| member.stream.is_some() && member.is_enrolled;
        if !self.inner.members.lock().values().any(enrolled) {
            return Ok(());
        }
        let mut read = self.inner.store.begin_read().await?;
        let valid = join_tokens::enrolled(read.connection()).await?;
        let mut revoked: Vec<String> = Vec::new();
        for (id, member) in &*self.inner.members.lock() {
            if enrolled(member) && !valid.contains(id) {
                revoked.push(id.clone());
            }
        }
        for id in &revoked {
            self.expel(id);
        }
        Ok(())
    }

    /// Changes whenever a proxy connects or leaves.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Writes what changed, until `stop`; then writes that all have left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(WRITE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let forget_ms = i64::try_from(self.inner.forget_after.as_millis()).unwrap_or(i64::MAX);
        let (mut looked_ms, mut checked_ms) = (0, self.inner.clock.now_ms());
        loop {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            if stopping {
                self.all_left();
            }
            let now = self.inner.clock.now_ms();
            if now - checked_ms > RENEW_MS {
                checked_ms = now;
                if let Err(error) = self.expel_revoked().await {
                    tracing::warn!(%error, "cannot tell which proxies are revoked");
                }
            }
            let forget = now - looked_ms > FORGET_EVERY_MS.min(forget_ms / 2);
            let before = forget.then_some(now.saturating_sub(forget_ms));
            if let Err(error) = self.write(now, before).await {
                tracing::warn!(%error, "cannot write what proxies reported");
            } else if forget {
                looked_ms = now;
            }
            if stopping {
                return;
            }
        }
    }

    fn all_left(&self) {
        self.inner.members.lock().values_mut().for_each(Member::leave);
    }

    async fn write(&self, now: i64, forget_before: Option<i64>) -> Result<(), StoreError> {
        let dirty = self.take_dirty(now);
        if dirty.is_empty() && forget_before.is_none() {
            return Ok(());
        }
        let written = self.write_all(&dirty, forget_before).await;
        if written.is_err() {
            let mut members = self.inner.members.lock();
            for stored in &dirty {
                if let Some(member) = members.get_mut(&stored.proxy.id) {
                    member.is_dirty = true;
                }
            }
        }
        written
    }

    async fn write_all(
        &self,
        dirty: &[StoredProxy],
        forget_before: Option<i64>,
    ) -> Result<(), StoreError> {
        let mut write = self.inner.store.begin_write().await?;
        for stored in dirty {
            proxies::put(write.connection(), stored).await?;
        }
        if let Some(before) = forget_before {
            let unseen = peers::unseen(write.connection(), before).await?;
            for id in &unseen {
                peers::remove(write.connection(), id).await?;
                write.changed(kind::PROXY, "", id).await?;
            }
            proxies::delete_unseen(write.connection(), before).await?;
        }
        write.commit().await.map(drop)
    }

    fn take_dirty(&self, now: i64) -> Vec<StoredProxy> {
        let mut members = self.inner.members.lock();
        let mut dirty = Vec::new();
        for member in members.values_mut() {
            let until = &mut member.stored.connected_until_ms;
            if member.stream.is_some() && *until - now < CONNECTED_MS - RENEW_MS {
                *until = now + CONNECTED_MS;
                member.is_dirty = true;
            }
            if mem::take(&mut member.is_dirty) {
                dirty.push(member.stored.clone());
            }
        }
        members.retain(|_, member| {
            member.stream.is_some() || member.stored.proxy.last_seen_ms + CONNECTED_MS > now
        });
        dirty
    }
}

/// Whether a proxy runs stdio children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Stdio,
    None,
}

impl Membership {
    pub(crate) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// The proxy has said something.
    pub(crate) fn seen(&self) {
        self.change(|_| ());
    }

    /// The proxy has answered an update.
    pub(crate) fn applied(&self, applied: &Applied) {
        let Applied { position, outcome, errors, apply_ms } = applied;
        self.change(|member| {
            member.is_dirty = true;
            let StoredProxy { proxy, rejected, .. } = &mut member.stored;
            match outcome {
                Outcome::Active => {
                    proxy.applied_revision = position.revision;
                    proxy.apply_ms = *apply_ms;
                    proxy.rejected_revision = None;
                    proxy.rejected_errors.clear();
                    *rejected = None;
                }
                Outcome::Rejected => {
                    proxy.rejected_revision = Some(position.revision);
                    proxy.rejected_errors.clone_from(errors);
                    *rejected = Some(position.clone());
                }
                Outcome::Resync => {}
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Member)) {
        let now = self.fleet.inner.clock.now_ms();
        let mut members = self.fleet.inner.members.lock();
        let member = members.get_mut(&self.proxy_id);
        if let Some(member) = member.filter(|member| member.stream == Some(self.stream)) {
            member.stored.proxy.last_seen_ms = now;
            change(member);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.change(Member::leave);
        self.fleet.inner.changes.send_modify(|number| *number += 1);
    }
}
