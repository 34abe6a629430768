//! Where the answer to a request goes: to the client at once, or into the array that answers the
//! batch it came in (MCP 2025-03-26, transports).

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::end::ClientEnd;
use crate::{
    mcp::{code, response},
    transport::batch::joined,
    upstream::CallFailure,
};

/// The place of one answer. Dropped, there is none: the request was cancelled.
#[derive(Debug)]
pub(super) enum Reply {
    /// Of the client's `initialize`, whose answer says what the client may do.
    Hello(ClientEnd),
    Alone(ClientEnd),
    InBatch(oneshot::Sender<Bytes>),
}

impl Reply {
    pub(super) async fn answer(self, response: Bytes) {
        match self {
            Self::Hello(client) => {
                client.agree(&response);
                client.say(response).await;
            }
            Self::Alone(client) => client.say(response).await,
            // The bridge ends, and so does the array.
            Self::InBatch(place) => drop(place.send(response)),
        }
    }

    /// Answers a request, by its raw id, that came to nothing.
    pub(super) async fn fail(self, id: &[u8], failure: &CallFailure) {
        tracing::warn!(%failure, "a request failed");
        let message = format!("the server {failure}");
        self.refuse(id, code::INTERNAL_ERROR, &message).await;
    }

    /// Answers a request that is not even sent.
    pub(super) async fn refuse(self, id: &[u8], code: i64, message: &str) {
        self.answer(response::error(Some(id), code, message, None)).await;
    }
}

/// The answers to one batch.
#[derive(Debug)]
pub(super) struct Answers {
    client: ClientEnd,
    /// To what could not be read.
    refusals: Vec<Bytes>,
    awaited: Vec<oneshot::Receiver<Bytes>>,
}

impl Answers {
    pub(super) fn of(client: ClientEnd) -> Self {
        Self { client, refusals: Vec::new(), awaited: Vec::new() }
    }

    /// A place for one more.
    pub(super) fn reply(&mut self) -> Reply {
        let (place, awaited) = oneshot::channel();
        self.awaited.push(awaited);
        Reply::InBatch(place)
    }

    pub(super) fn refuse(&mut self, refusal: Bytes) {
        self.refusals.push(refusal);
    }

    /// Hands the array out when nothing is awaited any more; none if nothing was to be answered.
    pub(super) async fn deliver(self) {
        let mut answers = self.refusals;
        answers.extend(join_all(self.awaited).await.into_iter().flatten());
        if !answers.is_empty() {
            self.client.say(joined(&answers)).await;
        }
    }
}
