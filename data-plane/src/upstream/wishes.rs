//! Resources that clients want to hear of, counted by upstream: what its keepers keep.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{SessionKey, failure::CallFailure};
use crate::mcp::Declared;

/// How long an upstream may take to say that it will tell of a resource.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

/// On whose connection an upstream tells of changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// On one that is everybody's.
    All,
    /// On that of one client session or principal.
    Session(SessionKey),
}

type Key = (Box<str>, Scope);

/// All wishes of this proxy's clients.
#[derive(Debug, Default)]
pub(crate) struct Wishes(DashMap<Key, Arc<Wished>>);

/// What is wished of one upstream in one scope.
#[derive(Debug, Default)]
pub(crate) struct Wished {
    uris: Mutex<AHashMap<Box<str>, Standing>>,
    /// What the sessions of the scope declare, and for whom; the same for all who share them.
    able: OnceLock<(Declared, Box<str>)>,
    changes: watch::Sender<u64>,
}

/// How it stands with one resource.
#[derive(Debug, Default)]
struct Standing {
    /// How many wish it.
    count: usize,
    /// What the upstream said, once it did.
    said: Option<Result<(), CallFailure>>,
}

/// One client's wish, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Wish {
    wished: Arc<Wished>,
    uri: Box<str>,
}

impl Wishes {
    /// One more wish for a resource; the sessions of the scope are `subject`'s and declare
    /// `able`.
    pub(crate) fn wish(
        &self,
        upstream_id: &str,
        (scope, able, subject): (Scope, Declared, &str),
        uri: &str,
    ) -> Wish {
        let entry = self.0.entry((upstream_id.into(), scope)).or_default();
        entry.able.get_or_init(|| (able, subject.into()));
        entry.uris.lock().entry(uri.into()).or_default().count += 1;
        // While the entry is locked, so that no keeper retires in between.
        let wished = Arc::clone(&entry);
        drop(entry);
        wished.change();
        Wish { wished, uri: uri.into() }
    }

    /// What is wished in a scope, now and later.
    pub(crate) fn wished(&self, upstream_id: &str, scope: &Scope) -> Arc<Wished> {
        Arc::clone(&self.0.entry((upstream_id.into(), scope.clone())).or_default())
    }

    /// Whether a resource is wished in the scope of all.
    pub(crate) fn is_wished(&self, upstream_id: &str, uri: &str) -> bool {
        let wished = self.0.get(&(upstream_id.into(), Scope::All));
        wished.is_some_and(|wished| wished.uris.lock().get(uri).is_some_and(|it| it.count > 0))
    }

    /// The scopes in which something is wished of an upstream.
    pub(crate) fn scopes(&self, upstream_id: &str) -> Vec<Scope> {
        let of_it = self.0.iter().filter(|entry| *entry.key().0 == *upstream_id);
        of_it.map(|entry| entry.key().1.clone()).collect()
    }

    /// Forgets a scope in which nothing is wished; false if something is.
    pub(crate) fn retire(&self, upstream_id: &str, scope: &Scope) -> bool {
        match self.0.entry((upstream_id.into(), scope.clone())) {
            Entry::Occupied(entry) if entry.get().is_empty() => {
                entry.remove();
                true
            }
            Entry::Occupied(_) => false,
            Entry::Vacant(_) => true,
        }
    }

    /// Forgets all scopes of upstreams for which `is_gone` and nothing is wished.
    pub(crate) fn prune(&self, is_gone: impl Fn(&str) -> bool) {
        self.0.retain(|(upstream_id, _), wished| !is_gone(upstream_id) || !wished.is_empty());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Wished {
    /// Whether the upstream has told of a resource before.
    pub(crate) fn was_told(&self, uri: &str) -> bool {
        self.uris.lock().get(uri).is_some_and(|it| matches!(it.said, Some(Ok(()))))
    }

    /// The resources that somebody wishes and the upstream has not refused.
    pub(crate) fn hopeful(&self) -> AHashSet<Box<str>> {
        let uris = self.uris.lock();
        let hopeful =
            uris.iter().filter(|(_, it)| it.count > 0 && !matches!(it.said, Some(Err(_))));
        hopeful.map(|(uri, _)| uri.clone()).collect()
    }

    /// What the sessions of the scope declare, and whose they are.
    pub(crate) fn able(&self) -> (Declared, &str) {
        let known = self.able.get().map(|(able, subject)| (able.clone(), &**subject));
        known.unwrap_or_default()
    }

    /// Whether nobody wishes anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.uris.lock().values().all(|it| it.count == 0)
    }

    /// Changes with each wish.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes what the upstream said of a resource.
    pub(crate) fn note(&self, uri: &str, said: Result<(), CallFailure>) {
        if let Some(standing) = self.uris.lock().get_mut(uri) {
            standing.said = Some(said);
        }
        self.change();
    }

    /// Notes for each new wish what `known` knows already of its resource.
    pub(crate) fn settle(&self, known: impl Fn(&str) -> Option<Result<(), CallFailure>>) {
        let mut is_any_new = false;
        for (uri, standing) in self.uris.lock().iter_mut().filter(|(_, it)| it.said.is_none()) {
            standing.said = known(uri);
            is_any_new |= standing.said.is_some();
        }
        if is_any_new {
            self.change();
        }
    }

    /// Notes that the upstream cannot say anything now: who waits need not, who has waited
    /// stays hopeful.
    pub(crate) fn note_failure(&self, failure: &CallFailure) {
        for standing in self.uris.lock().values_mut().filter(|it| it.said.is_none()) {
            standing.said = Some(Err(failure.clone()));
        }
        self.change();
    }

    fn change(&self) {
        // Forgets what nobody wishes.
        self.uris.lock().retain(|_, it| it.count > 0);
        self.changes.send_modify(|version| *version += 1);
    }

    fn said(&self, uri: &str) -> Option<Result<(), CallFailure>> {
        self.uris.lock().get(uri).and_then(|it| it.said.clone())
    }
}

impl Wish {
    /// Waits until the upstream has said whether it will tell of the resource.
    pub(crate) async fn kept(&self) -> Result<(), CallFailure> {
        self.kept_within(KEPT_WITHIN).await
    }

    /// The same, with so much time for the upstream.
    pub(crate) async fn kept_within(&self, patience: Duration) -> Result<(), CallFailure> {
        let mut changes = self.wished.changes();
        let said = async {
            loop {
                changes.mark_unchanged();
                if let Some(said) = self.wished.said(&self.uri) {
                    return said;
                }
                if changes.changed().await.is_err() {
                    return Err(CallFailure::Gone);
                }
            }
        };
        let said = tokio::time::timeout(patience, said).await;
        said.unwrap_or(Err(CallFailure::Silent(patience)))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        if let Some(standing) = self.wished.uris.lock().get_mut(&self.uri) {
            standing.count = standing.count.saturating_sub(1);
        }
        self.wished.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wishes_are_counted_and_their_fate_is_told_to_all() {
        let all = Wishes::default();
        let one = all.wish("u1", (Scope::All, Declared::default(), "ann"), "a://1");
        let two = all.wish("u1", (Scope::All, Declared::default(), "ann"), "a://1");
        let wished = all.wished("u1", &Scope::All);
        assert_eq!(wished.hopeful().len(), 1);
        assert!(!all.retire("u1", &Scope::All));
        wished.note("a://1", Ok(()));
        assert!(one.kept().await.is_ok() && two.kept().await.is_ok());
        wished.note("a://1", Err(CallFailure::NoResponse));
        assert!(one.kept().await.is_err());
        assert!(wished.hopeful().is_empty() && !wished.is_empty());
        drop((one, two));
        assert!(wished.is_empty());
        assert!(all.retire("u1", &Scope::All));
        // A new wish is a new chance.
        let three = all.wish("u1", (Scope::All, Declared::default(), "ann"), "a://1");
        assert!(matches!(three.kept().await, Err(CallFailure::Silent(_))));
        assert_eq!(all.scopes("u1"), [Scope::All]);
        drop(three);
        all.prune(|_| true);
        assert_eq!(all.len(), 0);
    }

    #[tokio::test]
    async fn a_failure_frees_who_waits_and_leaves_who_was_kept() {
        let all = Wishes::default();
        let kept = all.wish("u1", (Scope::All, Declared::default(), "ann"), "a://1");
        let wished = all.wished("u1", &Scope::All);
        wished.note("a://1", Ok(()));
        let waits = all.wish("u1", (Scope::All, Declared::default(), "ann"), "a://2");
        wished.note_failure(&CallFailure::NoResponse);
        assert!(kept.kept().await.is_ok());
        assert!(waits.kept().await.is_err());
        assert_eq!(wished.hopeful().len(), 1);
    }
}
