//! A call in flight on a pipe.

use std::sync::Arc;

use proto::Era;
use tokio::time::Instant;

use super::{
    Link,
    connection::{Ticket, Work},
    turns::Turn,
};
use crate::mcp::Message;
use crate::upstream::{
    Call, Event,
    failure::CallFailure,
    fetch::Bounds,
    patience::Patience,
    relay::{Relay, Taken},
};

/// A call in flight on a pipe. Dropping it cancels the call.
#[derive(Debug)]
pub(crate) struct PipeConversation {
    ticket: Ticket,
    relay: Relay,
    patience: Patience,
    /// Other calls of tools that ask wait for it.
    turn: Option<Turn>,
    /// Keeps the pipe until the call is done.
    link: Arc<Link>,
}

impl PipeConversation {
    pub(super) fn new(
        link: Arc<Link>,
        call: &Call,
        bounds: Bounds,
        (work, turn): (Work, Option<Turn>),
    ) -> Self {
        let ticket = link.connection.ticket(Some(work));
        let relay = Relay::remapped(call, ticket.id);
        Self { ticket, relay, patience: Patience::new(bounds), turn, link }
    }

    pub(super) fn send(&mut self, call: &Call) -> Result<(), CallFailure> {
        if let (Era::Legacy, Some(level)) = (self.link.handshake.era, call.logs.level()) {
            self.link.want_logs(level)?;
        }
        let request = self.relay.request(call, &self.link.handshake);
        self.ticket.send(request.into_bytes())
    }

    /// What the server speaks.
    pub(crate) fn era(&self) -> Era {
        self.link.handshake.era
    }

    /// The next message for the client. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Event, CallFailure> {
        loop {
            let message = match &self.turn {
                None => self.patience.wait(self.ticket.next()).await??,
                // Boxed, so that other calls do not carry its size.
                Some(_) => Box::pin(self.next_in_turn()).await?,
            };
            self.patience.heard();
            match self.relay.take(message, self.link.connection.health().name())? {
                Taken::Response { body, code: _ } => return Ok(Event::Response(body)),
                Taken::Notification(body) => return Ok(Event::Notification(body)),
                // Modern servers ask in their answers; requests they may not send.
                Taken::Request(message) if self.link.handshake.era == Era::Modern => {
                    self.link.connection.refuse_asked(&message);
                }
                Taken::Request(message) => {
                    let open = self.patience.open();
                    let question = self.link.connection.question(message, open);
                    let question = question.ok_or(CallFailure::Gone)?;
                    // The first time that its tool asks, it did not have to wait.
                    self.turn = self.turn.take().or_else(|| self.link.connection.free_turn());
                    return Ok(Event::Request(question.within(self.relay.tasks())));
                }
                Taken::InputRequired { message, code: _ } => {
                    return Ok(Event::InputRequired(message));
                }
                Taken::Withdrawn(id) => return Ok(Event::Withdrawn(id)),
                // The connection has seen to these.
                Taken::ListChanged(_)
                | Taken::ResourceUpdated(_)
                | Taken::TaskStatus(_)
                | Taken::Nothing => (),
            }
        }
    }

    /// The next message of a call that others may wait for. Its client has as long for an answer
    /// as the upstream for its own, then others are asked.
    async fn next_in_turn(&mut self) -> Result<Message, CallFailure> {
        let connection = &self.link.connection;
        let silence = self.patience.bounds.silence();
        loop {
            let asked = connection.asked_since(self.ticket.id);
            let overdue = async {
                match (&self.turn, asked) {
                    (Some(turn), Some(asked)) => turn.overdue(asked + silence).await,
                    (_, _) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                heard = self.patience.wait(self.ticket.next()) => return heard?,
                () = overdue => (),
            }
            tracing::debug!("a client did not answer while others waited");
            let before = Instant::now().checked_sub(silence);
            connection.expire(self.ticket.id, before.unwrap_or_else(Instant::now));
            // What was given up does not count any more.
            self.patience = Patience::new(self.patience.bounds);
        }
    }
}
