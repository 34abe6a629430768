//! Remembers what was verified: bounded, sharded, read without a lock.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ahash::{AHashMap, RandomState};
use arc_swap::ArcSwap;
use proto::{Principal, Secret};

use super::AuthError;

const SHARDS: usize = 32;
/// Per shard; a full shard starts anew, which costs each caller one verification.
const ENTRIES_MAX: usize = 256;
/// How many passwords may be checked at a time.
const SLOW_CHECKS_MAX: usize = 4;
/// How far the clocks of signer and reader may be apart, in milliseconds.
const LEEWAY_MS: i64 = 60_000;

/// A credential that was right, and when it is.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub principal: Arc<Principal>,
    pub not_before_ms: Option<i64>,
    pub expire_ms: Option<i64>,
}

impl Verdict {
    /// The principal, if the credential is valid at `now_ms`.
    pub fn at(&self, now_ms: i64) -> Result<Arc<Principal>, AuthError> {
        if self.expire_ms.is_some_and(|expire| expire.saturating_add(LEEWAY_MS) < now_ms) {
            return Err(AuthError::Expired);
        }
        if self.not_before_ms.is_some_and(|start| start.saturating_sub(LEEWAY_MS) > now_ms) {
            return Err(AuthError::NotYetValid);
        }
        Ok(Arc::clone(&self.principal))
    }
}

/// Verified credentials of one proxy, whatever configuration is active.
#[derive(Debug)]
pub struct Cache {
    shards: [ArcSwap<AHashMap<u64, Arc<Entry>>>; SHARDS],
    hasher: RandomState,
    slow_checks: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    credential: Secret<Vec<u8>>,
    fingerprint: [u8; 32],
    verdict: Verdict,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| ArcSwap::default()),
            hasher: RandomState::new(),
            slow_checks: AtomicUsize::new(0),
        }
    }
}

impl Cache {
    /// The verdict on this very credential under these very keys.
    pub(super) fn find(&self, credential: &[u8], fingerprint: &[u8; 32]) -> Option<Verdict> {
        let hash = self.hasher.hash_one(credential);
        let shard = self.shard(hash)?.load();
        let entry = shard.get(&hash)?;
        let is_same = entry.credential.expose() == credential && entry.fingerprint == *fingerprint;
        is_same.then(|| entry.verdict.clone())
    }

    pub(super) fn remember(&self, credential: &[u8], fingerprint: [u8; 32], verdict: Verdict) {
        let hash = self.hasher.hash_one(credential);
        let credential = Secret::new(credential.to_vec());
        let entry = Arc::new(Entry { credential, fingerprint, verdict });
        let Some(shard) = self.shard(hash) else { return };
        shard.rcu(|entries| {
            let mut entries = match entries.len() {
                0..ENTRIES_MAX => AHashMap::clone(entries),
                _ => AHashMap::new(),
            };
            entries.insert(hash, Arc::clone(&entry));
            entries
        });
    }

    /// A place among the few that may check passwords at the same time.
    pub(super) fn begin_slow_check(self: &Arc<Self>) -> Result<SlowPermit, AuthError> {
        let permit = SlowPermit(Arc::clone(self));
        if self.slow_checks.fetch_add(1, Ordering::AcqRel) >= SLOW_CHECKS_MAX {
            return Err(AuthError::Busy);
        }
        Ok(permit)
    }

    fn shard(&self, hash: u64) -> Option<&ArcSwap<AHashMap<u64, Arc<Entry>>>> {
        // The top bits: the low ones choose the bucket inside.
        self.shards.get(usize::try_from(hash >> 59).unwrap_or(0) % SHARDS)
    }
}

/// Held while a password is checked.
#[derive(Debug)]
pub(super) struct SlowPermit(Arc<Cache>);

impl SlowPermit {
    pub(super) fn cache(&self) -> &Cache {
        &self.0
    }
}

impl Drop for SlowPermit {
    fn drop(&mut self) {
        self.0.slow_checks.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use proto::Role;

    use super::*;

    fn verdict() -> Verdict {
        let principal = Arc::new(Principal::new("alice", Role::Caller));
        Verdict { principal, not_before_ms: Some(1_000_000), expire_ms: Some(2_000_000) }
    }

    #[test]
    fn a_verdict_holds_for_its_credential_under_its_keys() {
        let cache = Cache::default();
        cache.remember(b"secret", [1; 32], verdict());
        assert!(cache.find(b"secret", &[1; 32]).is_some());
        assert!(cache.find(b"secret", &[2; 32]).is_none());
        assert!(cache.find(b"other", &[1; 32]).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = Cache::default();
        for index in 0..20_000u32 {
            cache.remember(&index.to_be_bytes(), [1; 32], verdict());
        }
        let entries: usize = cache.shards.iter().map(|shard| shard.load().len()).sum();
        assert!(entries <= SHARDS * ENTRIES_MAX && entries > SHARDS);
    }

    #[test]
    fn times_are_judged_with_a_minute_of_leeway() {
        let at = |now_ms| verdict().at(now_ms).map(drop);
        assert_eq!(at(2_060_000), Ok(()));
        assert_eq!(at(2_060_001), Err(AuthError::Expired));
        assert_eq!(at(940_000), Ok(()));
        assert_eq!(at(939_999), Err(AuthError::NotYetValid));
    }

    #[test]
    fn only_a_few_passwords_are_checked_at_a_time() {
        let cache = Arc::new(Cache::default());
        let mut permits: Vec<_> =
            (0..SLOW_CHECKS_MAX).map(|_| cache.begin_slow_check().unwrap()).collect();
        assert_eq!(cache.begin_slow_check().map(drop), Err(AuthError::Busy));
        permits.pop();
        assert!(cache.begin_slow_check().is_ok());
    }
}
