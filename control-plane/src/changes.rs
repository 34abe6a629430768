//! "The configuration changed": heard at once in this process, by `LISTEN` from
//! others on Postgres, and by asking each second, which alone would be enough.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

const POLL: Duration = Duration::from_secs(1);
/// How long to do without `LISTEN` after it failed.
const RELISTEN: Duration = Duration::from_secs(5);

/// Tells the newest revision.
#[derive(Clone)]
pub struct Changes {
    store: Store,
}

impl Changes {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The newest revision, now and whenever it grows. Changes of this process
    /// arrive with their commit; those of others as long as [`Changes::run`] runs.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.store.head().subscribe()
    }

    /// Watches for changes that other control planes make, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ear = Ear::new();
        loop {
            ear.open(&self.store).await;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => (),
                () = ear.heard() => (),
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot ask for the newest revision");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let revision = self.store.begin_read().await?.revision().await?;
        self.store.head().send_if_modified(|head| {
            let newer = *head < revision;
            *head = revision.max(*head);
            newer
        });
        Ok(())
    }
}

/// The listening connection, if there is one.
struct Ear {
    listener: Option<PgListener>,
    retry_at: tokio::time::Instant,
}

impl Ear {
    fn new() -> Self {
        Self { listener: None, retry_at: tokio::time::Instant::now() }
    }

    async fn open(&mut self, store: &Store) {
        let now = tokio::time::Instant::now();
        if self.listener.is_some() || now < self.retry_at {
            return;
        }
        self.retry_at = now + RELISTEN;
        match tokio::time::timeout(RELISTEN, store.listen()).await {
            Ok(Ok(listener)) => self.listener = listener,
            Ok(Err(error)) => tracing::warn!(%error, "cannot listen for changes: polling only"),
            Err(_) => tracing::warn!("cannot listen for changes in time: polling only"),
        }
    }

    /// Returns when something may have changed.
    async fn heard(&mut self) {
        let Some(listener) = &mut self.listener else { return std::future::pending().await };
        if let Err(error) = listener.recv().await {
            tracing::warn!(%error, "no longer listening for changes: polling only");
            self.listener = None;
        }
    }
}
