//! An MCP server as a child process, shared by all calls: started on first use, restarted
//! with backoff, ended with the upstream.

mod connection;
mod start;
mod turns;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::Era;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::connection::Connection;
use self::{connection::Ticket, turns::Turn};
use super::{
    Call, Event, Limits,
    era::{Handshake, Speech},
    failure::CallFailure,
    fetch::Bounds,
    health::Health,
    patience::Patience,
    question::{Back, Question},
    relay::{Relay, Taken},
    shared::Slot,
    spawner::{Program, Running, Spawner},
};
use crate::mcp::{Capabilities, Message};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A child that lived this long is not blamed for what came before.
const STABLE: Duration = Duration::from_mins(1);
/// A call waits this long for the next start; later ones it is told about.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The supervisor of one command.
#[derive(Debug)]
pub(crate) struct StdioUpstream {
    spawner: Arc<Spawner>,
    program: Program,
    limits: Limits,
    health: Arc<Health>,
    link: Slot<Link>,
    pace: Mutex<Pace>,
}

/// A child that is ready for calls. Dropped with its last call, then the child ends.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Arc<Connection>,
    pub(crate) handshake: Handshake,
    since: Instant,
    _running: Running,
}

/// What is remembered from child to child.
#[derive(Debug, Default)]
struct Pace {
    era: Option<Era>,
    starts: u32,
    failures: u32,
    not_before: Option<Instant>,
    last: String,
}

impl StdioUpstream {
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        program: Program,
        limits: Limits,
        health: Arc<Health>,
        era: Option<Era>,
    ) -> Self {
        let pace = Mutex::new(Pace { era, ..Pace::default() });
        Self { spawner, program, limits, health, link: Slot::default(), pace }
    }

    /// The running child, or a new one when its time has come.
    pub(crate) async fn link(self: &Arc<Self>) -> Result<Arc<Link>, CallFailure> {
        if let Some(link) = self.link.peek() {
            let Some(reason) = link.connection.ended() else { return Ok(link) };
            self.pace.lock().ended(link.since.elapsed(), reason);
            self.link.forget(&link);
        }
        let wait = self.pace.lock().wait()?;
        tokio::time::sleep(wait).await;
        let upstream = Arc::clone(self);
        self.link.get(|| self.spawner.handle().clone(), || upstream.start()).await
    }

    /// A legacy child of its own that sees a client with these capabilities; it ends when
    /// dropped, and the shared one knows nothing of it.
    pub(crate) async fn glimpse(
        self: &Arc<Self>,
        capabilities: Capabilities,
    ) -> Result<Arc<Link>, CallFailure> {
        let starting = start::glimpse(Arc::clone(self), capabilities);
        let starting = AbortOnDropHandle::new(self.spawner.handle().spawn(starting));
        starting.await.map_err(|_| CallFailure::Gone)?.map(Arc::new)
    }

    async fn start(self: Arc<Self>) -> Result<Arc<Link>, CallFailure> {
        let known = self.pace.lock().era;
        let started = start::start(Arc::clone(&self), known).await;
        let mut pace = self.pace.lock();
        match &started {
            Ok(link) => {
                pace.era = Some(link.handshake.era);
                pace.starts += 1;
                if pace.starts > 1 {
                    self.health.catalog_is_stale();
                }
            }
            Err(failure) => {
                // What it was taken for may have been the reason.
                pace.era = None;
                pace.failed(failure.to_string());
            }
        }
        drop(pace);
        started.map(Arc::new)
    }

    /// Ends the child when the calls that use it are done.
    pub(crate) fn close(&self) {
        self.link.take();
    }

    /// Sends a call and waits for what the child says first.
    pub(crate) async fn call(
        self: &Arc<Self>,
        call: &Call,
        bounds: Bounds,
    ) -> Result<(Event, StdioConversation), CallFailure> {
        let is_repeatable = call.is_repeatable();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let link = bounds.within(self.link()).await??;
            let turn = bounds.within(link.connection.turns.wait(call.target.label())).await?;
            let mut conversation = StdioConversation::new(link, call, bounds, turn);
            let sent = conversation.send(call);
            let is_unsent = sent.is_err();
            let heard = match sent {
                Ok(()) => conversation.next().await,
                Err(failure) => Err(failure),
            };
            match heard {
                Ok(event) => return Ok((event, conversation)),
                Err(CallFailure::Exited(_)) if attempt == 1 && (is_unsent || is_repeatable) => (),
                Err(failure) => return Err(failure),
            }
        }
    }
}

impl Link {
    /// Sends a request of our own and waits for its answer. A modern child is told the
    /// capabilities.
    pub(crate) async fn ask(
        &self,
        capabilities: Capabilities,
        question: (&str, &str),
        bounds: &Bounds,
    ) -> Result<Message, CallFailure> {
        let speech = match self.handshake.era {
            Era::Legacy => Speech::Legacy,
            Era::Modern => Speech::Modern(capabilities),
        };
        self.connection.ask(speech, question, bounds).await
    }
}

impl Pace {
    fn ended(&mut self, lived: Duration, reason: &str) {
        if lived >= STABLE {
            self.failures = 0;
        }
        self.failed(reason.to_owned());
    }

    fn failed(&mut self, reason: String) {
        let delay = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures += 1;
        self.not_before = Some(Instant::now() + delay);
        self.last = reason;
    }

    /// How long to wait for the next start; an error if that is too long for a call.
    fn wait(&self) -> Result<Duration, CallFailure> {
        let now = Instant::now();
        let wait = self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if wait <= WAIT_MAX {
            return Ok(wait);
        }
        let seconds = wait.as_secs_f32().ceil();
        let (failures, last) = (self.failures, &self.last);
        Err(CallFailure::Spawn(format!(
            "it failed {failures} times and is started again in {seconds} s; last: {last}"
        )))
    }
}

/// A call in flight on a child. Dropping it cancels the call.
#[derive(Debug)]
pub(crate) struct StdioConversation {
    ticket: Ticket,
    relay: Relay,
    patience: Patience,
    /// Other calls of tools that ask wait for it.
    _turn: Option<Turn>,
    /// Keeps the child until the call is done.
    link: Arc<Link>,
}

impl StdioConversation {
    fn new(link: Arc<Link>, call: &Call, bounds: Bounds, turn: Option<Turn>) -> Self {
        let ticket = link.connection.ticket(Some(call.target.label().into()));
        let relay = Relay::remapped(call, ticket.id);
        Self { ticket, relay, patience: Patience::new(bounds), _turn: turn, link }
    }

    fn send(&mut self, call: &Call) -> Result<(), CallFailure> {
        let request = self.relay.request(call, &self.link.handshake);
        self.ticket.send(request)
    }

    /// The next message for the client. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Event, CallFailure> {
        loop {
            let message = self.patience.wait(self.ticket.next()).await??;
            self.patience.heard();
            match self.relay.take(message)? {
                Taken::Response { body, code: _ } => return Ok(Event::Response(body)),
                Taken::Notification(body) => return Ok(Event::Notification(body)),
                Taken::Request(message) => {
                    let back = Back::Pipe(Arc::clone(&self.link.connection));
                    return Ok(Event::Request(Question::new(message, back, self.patience.open())));
                }
                Taken::Withdrawn(id) => return Ok(Event::Withdrawn(id)),
                // The connection has seen to these.
                Taken::CatalogChanged | Taken::Nothing => (),
            }
        }
    }
}

#[cfg(test)]
mod tests;
