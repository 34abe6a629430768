//! A call in flight on a pipe.

use std::sync::Arc;

use proto::Era;

use super::{Link, connection::Ticket, turns::Turn};
use crate::upstream::{
    Call, Event,
    failure::CallFailure,
    fetch::Bounds,
    patience::Patience,
    question::{Back, Question},
    relay::{Relay, Taken},
};

/// A call in flight on a pipe. Dropping it cancels the call.
#[derive(Debug)]
pub(crate) struct PipeConversation {
    ticket: Ticket,
    relay: Relay,
    patience: Patience,
    /// Other calls of tools that ask wait for it.
    _turn: Option<Turn>,
    /// Keeps the pipe until the call is done.
    link: Arc<Link>,
}

impl PipeConversation {
    pub(super) fn new(link: Arc<Link>, call: &Call, bounds: Bounds, turn: Option<Turn>) -> Self {
        let ticket = link.connection.ticket(Some(call.target.label().into()));
        let relay = Relay::remapped(call, ticket.id);
        Self { ticket, relay, patience: Patience::new(bounds), _turn: turn, link }
    }

    pub(super) fn send(&mut self, call: &Call) -> Result<(), CallFailure> {
        if let (Era::Legacy, Some(level)) = (self.link.handshake.era, call.logs.level()) {
            self.link.want_logs(level)?;
        }
        let request = self.relay.request(call, &self.link.handshake);
        self.ticket.send(request)
    }

    /// What the server speaks.
    pub(crate) fn era(&self) -> Era {
        self.link.handshake.era
    }

    /// The next message for the client. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Event, CallFailure> {
        loop {
            let message = self.patience.wait(self.ticket.next()).await??;
            self.patience.heard();
            match self.relay.take(message)? {
                Taken::Response { body, code: _ } => return Ok(Event::Response(body)),
                Taken::Notification(body) => return Ok(Event::Notification(body)),
                // Modern servers ask in their answers; requests they may not send.
                Taken::Request(message) if self.link.handshake.era == Era::Modern => {
                    self.link.connection.refuse(&message);
                }
                Taken::Request(message) => {
                    let back = Back::Pipe(Arc::clone(&self.link.connection));
                    let question = Question::new(message, back, self.patience.open());
                    return Ok(Event::Request(question.within(self.relay.tasks())));
                }
                Taken::InputRequired(message) => return Ok(Event::InputRequired(message)),
                Taken::Withdrawn(id) => return Ok(Event::Withdrawn(id)),
                // The connection has seen to these.
                Taken::CatalogChanged
                | Taken::ResourceUpdated(_)
                | Taken::TaskStatus(_)
                | Taken::Nothing => (),
            }
        }
    }
}
