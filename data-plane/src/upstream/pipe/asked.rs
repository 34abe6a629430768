//! What a server has asked on a pipe and was not answered yet, and during which calls.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mcp::Message;

/// The unanswered requests of one server.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    open: Vec<Open>,
}

/// A request among those of its pipe; servers may use their own ids again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serial(u64);

#[derive(Debug)]
struct Open {
    serial: Serial,
    request: Message,
    /// The call that it belongs to; `None`: one of the pipe's only client.
    call: Option<u64>,
    since: Instant,
}

impl Asked {
    /// The server asks.
    pub(super) fn note(&self, request: &Message, call: Option<u64>) {
        let mut state = self.0.lock();
        state.last += 1;
        let (serial, request, since) = (Serial(state.last), request.clone(), Instant::now());
        state.open.push(Open { serial, request, call, since });
    }

    /// A request needs no answer any more; false if that was so before.
    pub(super) fn close(&self, serial: Serial) -> bool {
        let mut state = self.0.lock();
        let at = state.open.iter().position(|it| it.serial == serial);
        at.map(|at| state.open.swap_remove(at)).is_some()
    }

    /// The newest request with this id (raw JSON), and its call if that can be said.
    pub(super) fn find(&self, id: &[u8]) -> Option<(Serial, Option<u64>)> {
        let state = self.0.lock();
        let named = state.open.iter().filter(|it| it.request.id() == Some(id));
        named.max_by_key(|it| it.serial.0).map(|it| (it.serial, it.call))
    }

    /// Since when a call waits for an answer.
    pub(super) fn since(&self, call: u64) -> Option<Instant> {
        let state = self.0.lock();
        state.open.iter().filter(|it| it.call == Some(call)).map(|it| it.since).min()
    }

    /// Gives up what a call has waited for since `before`: what the server asked.
    pub(super) fn expire(&self, call: u64, before: Instant) -> Vec<Message> {
        let mut state = self.0.lock();
        let late = state.open.extract_if(.., |it| it.call == Some(call) && it.since <= before);
        late.map(|it| it.request).collect()
    }
}

/// The id of a request that a notification of its end names (raw JSON).
pub(super) fn cancelled(message: &Message) -> Option<Bytes> {
    message.params()?.request_id.map(|id| message.slice(id))
}
