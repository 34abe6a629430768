//! A call in flight on a pipe.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Connection, Heard};
use crate::{
    mcp::{Kind, Message, notice},
    upstream::failure::CallFailure,
};

/// A call in flight. Dropping it before the answer tells the server that nobody waits.
#[derive(Debug)]
pub(crate) struct Ticket {
    connection: Arc<Connection>,
    /// The call's id on this pipe, and its progress token.
    pub(crate) id: u64,
    pub(super) heard: mpsc::Receiver<Heard>,
    is_sent: bool,
    is_answered: bool,
}

impl Ticket {
    pub(super) fn new(connection: Arc<Connection>, id: u64, heard: mpsc::Receiver<Heard>) -> Self {
        Self { connection, id, heard, is_sent: false, is_answered: false }
    }

    /// Sends the call's message.
    pub(crate) fn send(&mut self, message: Bytes) -> Result<(), CallFailure> {
        self.connection.notify(message)?;
        self.is_sent = true;
        // The end may have come between taking the ticket and sending.
        match self.connection.ended() {
            Some(_) => Err(self.connection.gone()),
            None => Ok(()),
        }
    }

    /// The next message of this call. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Message, CallFailure> {
        let heard = self.heard.recv().await.unwrap_or_else(|| Err(self.connection.gone()));
        self.is_answered |= match &heard {
            Ok(message) => matches!(message.kind, Kind::Response(_)),
            // Else the server may still be at work on it.
            Err(failure) => !matches!(failure, CallFailure::WrongId | CallFailure::NotJsonRpc(_)),
        };
        heard
    }

    pub(super) async fn answer(&mut self) -> Result<Message, CallFailure> {
        loop {
            let message = self.next().await?;
            if matches!(message.kind, Kind::Response(_)) {
                return Ok(message);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connection.calls.remove(&self.id);
        self.heard.close();
        while let Ok(heard) = self.heard.try_recv() {
            if let Ok(message) = heard
                && matches!(message.kind, Kind::Request(_))
            {
                self.connection.unheard(message);
            }
        }
        if self.is_sent && !self.is_answered {
            let cancelled = notice::cancelled(self.id.to_string().as_bytes());
            // A server that is gone or overloaded need not know.
            self.connection.notify(cancelled).ok();
        }
    }
}
