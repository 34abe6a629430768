//! Requests that run, by their ids: what a cancellation and the end can name.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::Era;
use tokio_util::sync::CancellationToken;

use super::{era_of, is_subscription};
use crate::mcp::{Message, Method};

/// All requests that somebody waits for.
#[derive(Default)]
pub(super) struct Requests(Arc<Mutex<Vec<Request>>>);

/// A running request's hold on its id, which is free again when this is dropped.
pub(super) struct Place {
    requests: Arc<Mutex<Vec<Request>>>,
    id: Bytes,
    cancel: CancellationToken,
}

impl Place {
    /// Resolves when nobody waits for the answer any more.
    pub(super) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.requests.lock().retain(|request| request.id != self.id);
    }
}

/// A request that a cancellation can name.
struct Request {
    /// Raw JSON.
    id: Bytes,
    era: Era,
    /// It goes on until somebody ends it.
    is_subscription: bool,
    cancel: CancellationToken,
}

impl Requests {
    /// A place for the request; `None` if one with its id runs.
    pub(super) fn register(&self, message: &Message) -> Option<Place> {
        let id = message.id_bytes();
        let mut requests = self.0.lock();
        if requests.iter().any(|other| other.id == id) {
            return None;
        }
        let cancel = CancellationToken::new();
        requests.push(Request {
            id: id.clone(),
            era: era_of(message),
            is_subscription: is_subscription(message),
            cancel: cancel.clone(),
        });
        Some(Place { requests: Arc::clone(&self.0), id, cancel })
    }

    /// The request that a `notifications/cancelled` names, if it runs.
    pub(super) fn cancelled(&self, message: &Message) -> Option<(Era, CancellationToken)> {
        if message.method() != Some(&Method::Cancelled) {
            return None;
        }
        let id = message.raw(message.params()?.request_id?);
        let requests = self.0.lock();
        let request = requests.iter().find(|request| request.id == id)?;
        Some((request.era, request.cancel.clone()))
    }

    /// Ends what would go on although nobody listens.
    pub(super) fn unsubscribe(&self) {
        let requests = self.0.lock();
        requests.iter().filter(|it| it.is_subscription).for_each(|it| it.cancel.cancel());
    }

    /// Ends all.
    pub(super) fn give_up(&self) {
        self.0.lock().iter().for_each(|request| request.cancel.cancel());
    }
}
