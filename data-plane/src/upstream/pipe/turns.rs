//! Which tools of a server ask their callers, and whose turn it is to be asked.
//!
//! A pipe does not tell which call a server's request belongs to. So calls of tools that have
//! ever asked run one after the other: then there is only one that it can be.

use std::sync::Arc;

use ahash::AHashSet;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of one pipe.
#[derive(Debug)]
pub(crate) struct Turns {
    asking: RwLock<AHashSet<Arc<str>>>,
    turn: Arc<Semaphore>,
}

/// The right to ask; the next call gets it when this is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Default for Turns {
    fn default() -> Self {
        Self { asking: RwLock::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Turns {
    /// Notes that a tool asks.
    pub(super) fn has_asked(&self, tool: &Arc<str>) {
        if !self.asks(tool) {
            self.asking.write().insert(Arc::clone(tool));
        }
    }

    /// Whether a tool has ever asked.
    pub(super) fn asks(&self, tool: &str) -> bool {
        self.asking.read().contains(tool)
    }

    /// Waits for the turn of a tool that asks; others need none.
    pub(super) async fn wait(&self, tool: &str) -> Option<Turn> {
        if !self.asks(tool) {
            return None;
        }
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }
}
