//! The calls of a pipe that run while others are read, each until it is cancelled by name.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Pipe;
use crate::{error::Failure, mcp::Message};

/// A call that a `notifications/cancelled` can name.
pub(super) struct Running {
    /// Raw JSON.
    id: Bytes,
    cancel: CancellationToken,
}

/// A place among the running calls, free again when it is dropped.
pub(super) struct Place {
    pipe: Arc<Pipe>,
    id: Bytes,
    cancel: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pipe.running.lock().retain(|call| call.id != self.id);
    }
}

impl Place {
    /// Does work, unless nobody waits for it any more.
    pub(super) async fn while_wanted<T>(&self, work: impl Future<Output = T> + Send) -> Option<T> {
        let done = tokio::select! {
            biased;
            () = self.pipe.closed.cancelled() => None,
            () = self.cancel.cancelled() => None,
            done = work => Some(done),
        };
        if self.pipe.closed.is_cancelled() {
            // It may have opened something while the pipe was closed.
            self.pipe.end_session();
        }
        done
    }
}

impl Pipe {
    /// Gives up the call that a cancellation names: nothing is answered to it any more.
    pub(super) fn cancel(&self, message: &Message) {
        let id = message.params().and_then(|params| params.request_id);
        let Some(id) = id.map(|id| message.raw(id)) else { return };
        if let Some(call) = self.running.lock().iter().find(|call| call.id == id) {
            call.cancel.cancel();
        }
    }

    /// Does the work that gives the answer to request `id` while other work goes on.
    pub(super) async fn run(
        self: &Arc<Self>,
        id: Bytes,
        work: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        match self.enlist(&id) {
            Ok(place) => self.answer(place, work),
            Err(failure) => self.refuse(&failure, Some(&id)).await,
        }
    }

    /// Says what work gives. Its place is held until there is room for that, so that a client
    /// that reads nothing is refused further calls; and free before it is said, since who has heard
    /// the answer may use the id again.
    pub(super) fn answer(
        self: &Arc<Self>,
        place: Place,
        work: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        let pipe = Arc::clone(self);
        drop(self.work.spawn(async move {
            let Some(answer) = place.while_wanted(work).await.flatten() else { return };
            let room = pipe.room().await;
            drop(place);
            if let Some(room) = room {
                room.send(answer);
            }
        }));
    }

    /// A place for the work that answers request `id`, which a cancellation can end.
    pub(super) fn enlist(self: &Arc<Self>, id: &Bytes) -> Result<Place, Failure> {
        let mut running = self.running.lock();
        if running.len() >= self.edge.limits().calls_per_session {
            return Err(Failure::TooManyCalls);
        }
        if running.iter().any(|call| call.id == *id) {
            return Err(Failure::DuplicateId);
        }
        let cancel = CancellationToken::new();
        running.push(Running { id: id.clone(), cancel: cancel.clone() });
        Ok(Place { pipe: Arc::clone(self), id: id.clone(), cancel })
    }
}
