//! What an upstream of scope `principal` shows to each caller: read over the caller's own
//! connection when it is asked for, kept for a while, read again when it changed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;
use proto::{CatalogEntry, EntryKind, Era, resource::UpstreamResource};
use tokio::{sync::watch, time::Instant};

use super::{
    SessionKey, Upstreams,
    active::{Active, Adapter},
    failure::CallFailure,
    fetch::Bounds,
    lister::Lister,
};
use crate::{
    discovery,
    mcp::{
        Declared,
        subscription::{Topic, Topics},
    },
    snapshot::table::PrivateCatalog,
};

/// How long a request waits for a catalog that nothing is known of, and for a newer one.
const PATIENCE_FIRST: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the upstream may take for all of it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What could not be read is not tried again before.
const RETRY: Duration = Duration::from_secs(10);
/// Callers whose catalogs are kept, and the bytes of all that differ from each other.
const KEPT_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who looks at an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    /// Whose connections to the upstream are used.
    pub(crate) key: SessionKey,
    /// What is declared on them.
    pub(crate) declared: Declared,
    pub(crate) subject: Arc<str>,
    pub(crate) era: Era,
}

/// How new a catalog has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// As new as can be had.
    Fresh,
    /// Any will do.
    Known,
}

/// The catalogs of one upstream.
#[derive(Debug, Default)]
pub(crate) struct PrivateCatalogs {
    kept: DashMap<SessionKey, Arc<Kept>, ahash::RandomState>,
    /// Those that are kept; callers that are shown the same share one.
    distinct: Mutex<Vec<Weak<PrivateCatalog>>>,
}

/// The catalog of one caller.
#[derive(Debug)]
struct Kept(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Option<Arc<PrivateCatalog>>,
    /// Until when the last one is new; `None`: it is not.
    fresh_until: Option<Instant>,
    /// Not read again before.
    rest_until: Option<Instant>,
    reading: Option<Reading>,
    /// The last reading took so long that nobody waits for the next.
    is_slow: bool,
    /// The caller knows that it changed.
    is_told: bool,
    used_at: Instant,
}

/// A catalog is being read.
#[derive(Debug)]
struct Reading {
    /// Closed when it has been.
    done: watch::Receiver<()>,
    /// Somebody was answered without it.
    is_late: bool,
    /// It changed meanwhile.
    is_stale: bool,
}

/// What there is for a caller.
enum Found {
    Known(Option<Arc<PrivateCatalog>>),
    /// Worth to wait for, for so long. With a sender, the reading has to be begun.
    Coming(watch::Receiver<()>, Option<watch::Sender<()>>, Duration),
}

impl Upstreams {
    /// What an upstream shows to a caller, as far as that is known in time.
    pub(crate) async fn shown_to(
        &self,
        viewer: &Viewer,
        upstream: &Arc<UpstreamResource>,
        want: Want,
    ) -> Option<Arc<PrivateCatalog>> {
        let active = self.find(&upstream.id)?;
        active.shown_to(viewer, upstream, want).await
    }
}

impl Active {
    async fn shown_to(
        self: &Arc<Self>,
        viewer: &Viewer,
        upstream: &Arc<UpstreamResource>,
        want: Want,
    ) -> Option<Arc<PrivateCatalog>> {
        let kept = self.health().private().of(&viewer.key);
        let (mut done, begin, patience) = match kept.find(want) {
            Found::Known(catalog) => return catalog,
            Found::Coming(done, begin, patience) => (done, begin, patience),
        };
        if let Some(begin) = begin {
            let (active, kept) = (Arc::clone(self), Arc::clone(&kept));
            let (viewer, upstream) = (viewer.clone(), Arc::clone(upstream));
            tokio::spawn(async move {
                active.read_for(&kept, &viewer, &upstream).await;
                drop(begin);
            });
        }
        // It is closed when the reading is done, and never says anything.
        if tokio::time::timeout(patience, done.changed()).await.is_err() {
            kept.note_late();
        }
        kept.last()
    }

    /// Reads a catalog, and tells its caller if it was shown another.
    async fn read_for(&self, kept: &Kept, viewer: &Viewer, upstream: &UpstreamResource) {
        let reading = tokio::time::timeout(READ_TIMEOUT, self.read(viewer, upstream)).await;
        let read = reading.unwrap_or(Err(CallFailure::TooLong(READ_TIMEOUT)));
        self.health().note(&read);
        match read {
            Ok(catalog) => {
                let topics = kept.put(self.health().private().share(catalog));
                if topics != Topics::NONE {
                    self.health().tell_changed(&viewer.key, topics);
                }
            }
            Err(failure) => {
                // Discovery and health tell it louder.
                let upstream = self.name();
                tracing::debug!(upstream, %failure, "a caller sees what was known");
                kept.rest();
            }
        }
    }

    async fn read(
        &self,
        viewer: &Viewer,
        upstream: &UpstreamResource,
    ) -> Result<PrivateCatalog, CallFailure> {
        let limits = self.limits();
        let mut is_again = false;
        loop {
            let lister = self.lister_of(viewer).await?;
            let read = discovery::read_private(&lister, upstream, limits).await;
            let is_lost = matches!(
                read,
                Err(CallFailure::SessionLost | CallFailure::Exited(_) | CallFailure::Broken(_))
            );
            if !is_lost || is_again {
                return read;
            }
            if let (Adapter::Http(http), Lister::Session(_, session)) = (&self.adapter, &lister) {
                http.forget_session(&viewer.key, session);
            }
            is_again = true;
        }
    }

    /// The connection over which a viewer's calls are made.
    async fn lister_of(&self, viewer: &Viewer) -> Result<Lister, CallFailure> {
        match &self.adapter {
            Adapter::Http(http) => {
                http.lister_of(viewer, Bounds::of_step(self.limits(), READ_TIMEOUT)).await
            }
            Adapter::Pipe(pipe) => {
                let whose = (viewer.declared.clone(), &*viewer.subject);
                let link = pipe.link_of(&viewer.key, whose).await?;
                Ok(Lister::Pipe(link, viewer.declared.known))
            }
            Adapter::Refused(failure) => Err(failure.clone()),
        }
    }
}

impl PrivateCatalogs {
    fn of(&self, key: &SessionKey) -> Arc<Kept> {
        if let Some(kept) = self.kept.get(key) {
            return Arc::clone(&kept);
        }
        if self.kept.len() >= KEPT_MAX {
            self.make_room();
        }
        Arc::clone(&self.kept.entry(key.clone()).or_default())
    }

    /// Whose catalogs are kept.
    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        self.kept.iter().map(|entry| entry.key().clone()).collect()
    }

    /// A caller's catalog is another now; false if it was not shown any.
    pub(crate) fn changed(&self, key: &SessionKey) -> bool {
        self.kept.get(key).is_some_and(|kept| {
            kept.note_change();
            true
        })
    }

    /// Forgets what was shown to a caller that is gone.
    pub(crate) fn forget(&self, key: &SessionKey) {
        self.kept.remove(key);
    }

    /// Forgets what nobody has asked for in this time.
    pub(crate) fn sweep(&self, idle: Duration) {
        self.kept.retain(|_, kept| {
            let state = kept.0.lock();
            state.reading.is_some() || state.used_at.elapsed() < idle
        });
    }

    /// One of equal catalogs.
    fn share(&self, catalog: PrivateCatalog) -> Arc<PrivateCatalog> {
        let mut distinct = self.distinct.lock();
        let mut bytes = catalog.bytes();
        let mut same = None;
        distinct.retain(|known| {
            let Some(known) = known.upgrade() else { return false };
            bytes += known.bytes();
            if *known == catalog {
                same = Some(known);
            }
            true
        });
        if let Some(same) = same {
            return same;
        }
        let catalog = Arc::new(catalog);
        distinct.push(Arc::downgrade(&catalog));
        drop(distinct);
        if bytes > BYTES_MAX {
            self.make_room();
        }
        catalog
    }

    /// Forgets at least the half that was not used for longest.
    fn make_room(&self) {
        let mut used: Vec<_> = self.kept.iter().map(|it| it.0.lock().used_at).collect();
        let middle = used.len() / 2;
        if middle == 0 {
            return;
        }
        let (_, middle, _) = used.select_nth_unstable(middle);
        let middle = *middle;
        tracing::info!("forgot private catalogs, since there are too many");
        self.kept.retain(|_, kept| kept.0.lock().used_at > middle);
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(State {
            last: None,
            fresh_until: None,
            rest_until: None,
            reading: None,
            is_slow: false,
            is_told: false,
            used_at: Instant::now(),
        }))
    }
}

impl Kept {
    fn find(&self, want: Want) -> Found {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.used_at = now;
        let is_known = state.last.is_some();
        let is_fresh = state.fresh_until.is_some_and(|until| now < until);
        if is_known && (is_fresh || want == Want::Known) {
            return Found::Known(state.last.clone());
        }
        let patience = match (state.is_slow, is_known) {
            (true, _) => Duration::ZERO,
            (false, true) => PATIENCE,
            (false, false) => PATIENCE_FIRST,
        };
        // One that was given up with its runtime is not waited for.
        if let Some(reading) = state.reading.as_ref().filter(|it| it.done.has_changed().is_ok()) {
            // Nobody waits again for what was late for another.
            if reading.is_late {
                return Found::Known(state.last.clone());
            }
            return Found::Coming(reading.done.clone(), None, patience);
        }
        if state.rest_until.is_some_and(|until| now < until) {
            return Found::Known(state.last.clone());
        }
        let (begin, done) = watch::channel(());
        let reading = Reading { done: done.clone(), is_late: false, is_stale: false };
        state.reading = Some(reading);
        Found::Coming(done, Some(begin), patience)
    }

    fn last(&self) -> Option<Arc<PrivateCatalog>> {
        self.0.lock().last.clone()
    }

    fn note_late(&self) {
        if let Some(reading) = &mut self.0.lock().reading {
            reading.is_late = true;
        }
    }

    fn note_change(&self) {
        let mut state = self.0.lock();
        (state.fresh_until, state.rest_until, state.is_told) = (None, None, true);
        if let Some(reading) = &mut state.reading {
            reading.is_stale = true;
        }
    }

    /// It could not be read.
    fn rest(&self) {
        let mut state = self.0.lock();
        state.is_slow = state.reading.take().is_some_and(|reading| reading.is_late);
        state.rest_until = Some(Instant::now() + RETRY);
    }

    /// It was read. Gives what its caller has to be told of: what it was shown differently, and
    /// does not know to have changed.
    fn put(&self, catalog: Arc<PrivateCatalog>) -> Topics {
        let mut state = self.0.lock();
        let reading = state.reading.take();
        state.is_slow = false;
        let is_late = reading.as_ref().is_some_and(|reading| reading.is_late);
        let is_stale = reading.is_some_and(|reading| reading.is_stale);
        let ttl = Duration::from_millis(catalog.ttl_ms.into());
        state.fresh_until = (!is_stale).then(|| Instant::now() + ttl);
        let last = state.last.replace(Arc::clone(&catalog));
        let is_told = std::mem::replace(&mut state.is_told, is_stale);
        match last {
            None if is_late => Topics::ALL,
            Some(last) if is_late || !is_told => differences(&last, &catalog),
            None | Some(_) => Topics::NONE,
        }
    }
}

/// The groups of lists in which two catalogs differ.
fn differences(one: &Arc<PrivateCatalog>, other: &Arc<PrivateCatalog>) -> Topics {
    if Arc::ptr_eq(one, other) {
        return Topics::NONE;
    }
    let of = |catalog: &'_ PrivateCatalog, is_prompt| -> Vec<CatalogEntry> {
        let is_of = |it: &&CatalogEntry| (it.kind == EntryKind::Prompt) == is_prompt;
        catalog.entries.iter().filter(is_of).cloned().collect()
    };
    let differ = |topic: &Topic| match topic {
        Topic::Tools => one.tools != other.tools,
        Topic::Prompts => of(one, true) != of(other, true),
        Topic::Resources => of(one, false) != of(other, false),
    };
    Topic::ALL.into_iter().filter(differ).collect()
}

#[cfg(test)]
mod tests;
