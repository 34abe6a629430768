//! The proxies: who is connected here, what each runs, and what the store remembers of the rest.

mod membership;
mod writing;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use proto::proxy::{Proxy, STDIO_HOST};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::membership::{Hello, Membership, Superseded};
use crate::{
    clock::Clock,
    store::{
        Store, StoreError, join_tokens, peers,
        proxies::{self, StoredProxy},
    },
};

/// How long a stream counts as open for other control planes without news.
const CONNECTED_MS: i64 = 30_000;

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
    /// Proxies that had a credential when this was last looked up.
    enrolled: Mutex<HashSet<String>>,
    /// Grows when a proxy may have lost its credential.
    expelled: watch::Sender<u64>,
    /// What the proxy in this process has taken up; none: it is not connected.
    local: watch::Sender<Option<u64>>,
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

impl Fleet {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, forget_after: Duration) -> Self {
        let inner = Inner {
            store,
            clock,
            members: Mutex::default(),
            streams: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            enrolled: Mutex::default(),
            expelled: watch::Sender::new(0),
            local: watch::Sender::new(None),
            forget_after,
        };
        Self { inner: Arc::new(inner) }
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
        if !hello.is_enrolled {
            self.inner.local.send_replace(Some(hello.position.map_or(0, |it| it.revision)));
        }
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
        self.inner.expelled.send_modify(|number| *number += 1);
    }

    /// Changes whenever a proxy may have lost its credential: who serves one looks whether it has.
    pub(crate) fn expelled(&self) -> watch::Receiver<u64> {
        self.inner.expelled.subscribe()
    }

    /// Returns when the proxy in this process, if there is one, has taken up all until `revision`
    /// or refused it. What others run is told by [`Fleet::list`].
    pub(crate) async fn settled(&self, revision: u64) {
        let mut local = self.inner.local.subscribe();
        // It lives as long as the fleet.
        local.wait_for(|answered| answered.is_none_or(|it| it >= revision)).await.ok();
    }

    /// Expels proxies whose credential another control plane has taken from them.
    async fn expel_revoked(&self) -> Result<(), StoreError> {
        let mut read = self.inner.store.begin_read().await?;
        let valid: HashSet<_> =
            join_tokens::enrolled(read.connection()).await?.into_iter().collect();
        drop(read);
        let before = std::mem::replace(&mut *self.inner.enrolled.lock(), valid.clone());
        let mut revoked: HashSet<String> = before.difference(&valid).cloned().collect();
        for (id, member) in &*self.inner.members.lock() {
            if member.stream.is_some() && member.is_enrolled && !valid.contains(id) {
                revoked.insert(id.clone());
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
}

/// Whether a proxy runs stdio children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Stdio,
    None,
}
