//! What a connection and its service know of each other's requests.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

/// How many requests of a connection the service has begun and ended.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    started: AtomicU32,
    finished: AtomicU32,
    is_lull: AtomicBool,
}

/// A request being served; its end is the end of its answer.
#[derive(Debug)]
pub(crate) struct Served(Arc<Requests>);

impl Requests {
    /// Notes that a request's head is complete.
    pub(crate) fn start(self: &Arc<Self>) -> Served {
        self.started.fetch_add(1, Relaxed);
        Served(Arc::clone(self))
    }

    /// How many the service has begun.
    pub(super) fn started(&self) -> u32 {
        self.started.load(Relaxed)
    }

    /// Whether all that were begun have ended.
    pub(super) fn are_done(&self) -> bool {
        self.started() == self.finished.load(Relaxed)
    }

    /// Whether none has come for a while, so that nothing but the socket need be kept.
    pub(crate) fn is_lull(&self) -> bool {
        self.is_lull.load(Relaxed)
    }

    pub(super) fn begin_lull(&self) {
        self.is_lull.store(true, Relaxed);
    }

    pub(super) fn end_lull(&self) {
        self.is_lull.store(false, Relaxed);
    }
}

impl Served {
    /// A request that goes on after its answer, as an upgraded one does.
    pub(crate) fn extend(&self) -> Self {
        self.0.start()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Relaxed);
    }
}
