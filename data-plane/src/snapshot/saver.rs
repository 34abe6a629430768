//! Writes the configuration behind the proxy's back: at most once a second, at once where it must be.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::{
    apply::Record,
    disk::{Disk, DiskError},
};

/// Shortest time between two writes that nobody waits for.
const PACE: Duration = Duration::from_secs(1);
/// Records that wait; more make the stream wait.
const QUEUE: usize = 64;

/// Where records are handed in.
pub(crate) struct Saver {
    orders: mpsc::Sender<Order>,
    wants_snapshot: Arc<AtomicBool>,
}

struct Order {
    record: Record,
    /// Somebody waits until it is on the medium.
    done: Option<oneshot::Sender<Result<(), DiskError>>>,
}

/// What was taken away could come back after a restart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("what was taken away cannot be forgotten on disk")]
    Disk(#[from] DiskError),
    #[error("the writer has ended")]
    Ended,
}

impl Saver {
    /// The writer runs until the saver is dropped, and writes what it still has.
    pub(crate) fn start(disk: Disk) -> (Self, impl Future<Output = ()> + Send) {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let wants_snapshot = Arc::new(AtomicBool::new(disk.wants_snapshot()));
        let writer = Writer { disk, wants_snapshot: Arc::clone(&wants_snapshot) };
        (Self { orders, wants_snapshot }, writer.run(inbox))
    }

    /// The next record must be a snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.wants_snapshot.load(Ordering::Relaxed)
    }

    /// Hands a record in; it is written soon.
    pub(crate) async fn save(&self, record: Record) {
        if self.orders.send(Order { record, done: None }).await.is_err() {
            tracing::error!("the configuration is no longer written to disk");
        }
    }

    /// Writes a record and all before it. After success nothing that it takes
    /// away can come back by a restart.
    pub(crate) async fn save_now(&self, record: Record) -> Result<(), SaveError> {
        let (done, written) = oneshot::channel();
        let order = Order { record, done: Some(done) };
        self.orders.send(order).await.map_err(|_| SaveError::Ended)?;
        Ok(written.await.map_err(|_| SaveError::Ended)??)
    }
}

struct Writer {
    disk: Disk,
    wants_snapshot: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut next = Instant::now();
        while let Some(order) = inbox.recv().await {
            let mut batch = vec![order];
            gather(&mut inbox, &mut batch, next).await;
            let Some(writer) = self.write(batch).await else { return };
            self = writer;
            next = Instant::now() + PACE;
        }
    }

    async fn write(mut self, mut batch: Vec<Order>) -> Option<Self> {
        let waiting: Vec<_> = batch.iter_mut().filter_map(|order| order.done.take()).collect();
        let must = !waiting.is_empty();
        let written = spawn_blocking(move || {
            let records: Vec<_> = batch.iter_mut().map(|it| take(&mut it.record)).collect();
            let mut result = self.disk.write(&records);
            if let (Err(error), true) = (&result, must) {
                tracing::error!(%error, "forgetting the saved configuration instead");
                result = self.disk.forget();
            } else if let Err(error) = &result {
                tracing::error!(%error, "the configuration could not be saved");
            }
            self.wants_snapshot.store(self.disk.wants_snapshot(), Ordering::Relaxed);
            (self, result)
        });
        let (writer, result) = written.await.ok()?;
        let mut result = Some(result);
        for done in waiting {
            // All wait for the same write; the first hears its error itself.
            let result = result.take().unwrap_or(Ok(()));
            // Who no longer listens has closed its stream.
            done.send(result).ok();
        }
        Some(writer)
    }
}

fn take(record: &mut Record) -> Record {
    mem::replace(record, Record::Delta(Vec::new()))
}

/// Waits until `next` for more to write, unless somebody waits for it.
async fn gather(inbox: &mut mpsc::Receiver<Order>, batch: &mut Vec<Order>, next: Instant) {
    while batch.last().is_some_and(|order| order.done.is_none()) {
        tokio::select! {
            biased;
            order = inbox.recv() => match order {
                Some(order) => batch.push(order),
                None => return,
            },
            () = sleep_until(next) => return,
        }
    }
}
