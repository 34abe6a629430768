//! News about upstreams that wait for whoever reports them: told once, however often they came.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::UpstreamHealth;

/// What changed at upstreams and has not been taken yet. It is taken by one reader, and waits while
/// there is none: it never holds more than a word or two for each upstream.
#[derive(Debug, Default)]
pub struct News {
    waiting: Mutex<Waiting>,
    came: Notify,
}

/// News that were taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Upstreams that went up or down, by id, as they are now.
    pub health: BTreeMap<String, UpstreamHealth>,
    /// Ids of those whose catalog changed, or may have: they said so or were started again.
    pub stale: BTreeSet<String>,
}

impl News {
    pub(super) fn went(&self, health: UpstreamHealth) {
        self.waiting.lock().health.insert(health.upstream_id.clone(), health);
        self.came.notify_one();
    }

    pub(super) fn is_stale(&self, upstream_id: &str) {
        let mut waiting = self.waiting.lock();
        if !waiting.stale.contains(upstream_id) {
            waiting.stale.insert(upstream_id.to_owned());
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Returns when there may be news.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// All that waits.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }
}
