//! Calls to upstreams: one object per upstream, alive while its configuration is unchanged.

mod credential;
mod failure;
mod health;
mod shared;
mod spawner;
mod sse;
mod stderr;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
pub use failure::{CallError, CallFailure};
use futures_util::{Stream, StreamExt as _};

/// Whose upstream session a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// One legacy client session.
    Client([u8; 16]),
    /// All modern calls of one principal that declare the same capabilities.
    Principal { subject: Arc<str>, capabilities: u64 },
}

/// What an upstream answers, in the client's era and with the client's id.
pub enum Reply {
    /// One complete JSON-RPC response.
    Response(Bytes),
    /// Notifications first, the response last.
    Events(Events),
}

/// One message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Notification(Bytes),
    /// The last event.
    Response(Bytes),
}

/// The messages of one call. Dropping it cancels the call at the upstream.
pub struct Events {
    source: Pin<Box<dyn Stream<Item = Result<Event, CallError>> + Send>>,
}

impl Events {
    /// The next message; `None` after the response or an error. Safe to drop between messages.
    pub async fn next(&mut self) -> Option<Result<Event, CallError>> {
        self.source.next().await
    }
}
