//! How many children may run at a time: each is counted until its process is gone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many processes.
///
/// A child that nobody needs any more takes some seconds to end. Its claim is free at once, so
/// that who comes next is not refused; its place only when the process is gone, so that who comes
/// next waits for it. There are as many places as claims: each waits for one that is being left.
#[derive(Debug)]
pub(crate) struct Room {
    max: usize,
    claims: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// The right to a place, for as long as the child is of use.
#[derive(Debug)]
pub(crate) struct Claim {
    _permit: OwnedSemaphorePermit,
    places: Arc<Semaphore>,
}

/// Where one process runs.
pub(crate) type Place = OwnedSemaphorePermit;

impl Room {
    /// Room for `max` processes.
    pub(crate) fn new(max: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(max));
        Self { max, claims: semaphore(), places: semaphore() }
    }

    /// For how many there is room in all.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Whether every place is claimed.
    pub(crate) fn is_full(&self) -> bool {
        self.claims.available_permits() == 0
    }

    /// A claim, unless as many as may run are of use.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let permit = Arc::clone(&self.claims).try_acquire_owned().ok()?;
        Some(Claim { _permit: permit, places: Arc::clone(&self.places) })
    }
}

impl Claim {
    /// A place, as soon as no more processes run than may.
    pub(crate) async fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}
