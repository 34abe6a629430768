//! What goes out of a pipe: answers, what is said on the way to them, and what belongs to no call.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::Pipe;
use crate::{
    error::{self, Failure},
    exchange::{Event, Exchange},
    mcp::{Message, Notice, message, notice},
    sessions::listeners::{Heard, Hearing},
};

impl Pipe {
    /// Carries what belongs to no call to the client, once there is a session.
    pub(super) fn listen(self: &Arc<Self>) {
        let Some(mut reader) = self.listening.lock().take() else { return };
        let pipe = Arc::clone(self);
        self.work.spawn(async move {
            let carry = async {
                while let Some(message) = reader.next().await {
                    pipe.mention(message).await;
                }
            };
            pipe.closed.run_until_cancelled(carry).await;
        });
    }

    /// Carries what is said on the way to a response, and gives that.
    pub(super) async fn pump(&self, mut exchange: Exchange) -> Option<Bytes> {
        while let Some(event) = exchange.next().await {
            match event {
                Event::Message(message) => self.mention(message).await,
                Event::Response(message) => return Some(message.into_bytes()),
            }
        }
        None
    }

    /// Carries to a modern client what it listens to, and gives the response at the end of that.
    pub(super) async fn tell(&self, mut hearing: Box<Hearing>) -> Option<Bytes> {
        while let Some(heard) = hearing.next().await {
            match heard {
                Heard::Notice(message) => self.say(message).await,
                Heard::Over(response) => {
                    self.say(notice::cancelled(hearing.id())).await;
                    return Some(response);
                }
            }
        }
        None
    }

    pub(super) async fn refuse(&self, failure: &Failure, id: Option<&[u8]>) {
        self.say(self.refusal(failure, id)).await;
    }

    pub(super) fn refusal(&self, failure: &Failure, id: Option<&[u8]>) -> Bytes {
        failure.log();
        self.edge.telemetry().refused(failure);
        error::response(failure, id)
    }

    /// Sends a message on the way to an answer. A client that does not keep up misses progress
    /// and log messages first; for all else it is waited, by its upstream too.
    pub(super) async fn mention(&self, message: Bytes) {
        match self.out.try_send(message) {
            // Boxed, since what waits here holds each idle stream's size.
            Err(TrySendError::Full(message)) if is_needed(&message) => {
                Box::pin(self.say(message)).await;
            }
            Err(TrySendError::Closed(_)) => self.closed.cancel(),
            Ok(()) | Err(TrySendError::Full(_)) => (),
        }
    }

    /// Sends a message as soon as there is room for it.
    pub(super) async fn say(&self, message: Bytes) {
        if let Some(room) = self.room().await {
            room.send(message);
        }
    }

    /// Room for a message; a client that reads nothing for too long loses its connection.
    pub(super) async fn room(&self) -> Option<mpsc::Permit<'_, Bytes>> {
        let room = tokio::time::timeout(self.edge.timeouts().idle, self.out.reserve()).await;
        let room = room.ok().and_then(Result::ok);
        if room.is_none() {
            self.closed.cancel();
        }
        room
    }
}

/// Whether a client cannot do without a message.
fn is_needed(message: &Bytes) -> bool {
    let message = message::parse(message.clone()).ok();
    let method = message.as_ref().and_then(Message::method);
    !matches!(
        method.and_then(|method| Notice::of(method.as_str())),
        Some(Notice::Progress | Notice::Log)
    )
}
