//! What the client of an HTTP+SSE session waits for, and what a new stream has to begin with.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mcp::{Kind, Message, Method};

/// Requests whose late answers are still recognised.
const FORGOTTEN_MAX: usize = 256;

/// What one client has said and not heard yet.
#[derive(Default)]
pub(super) struct Waiting {
    /// The client's own `initialize`, to begin anew with.
    hello: Option<Message>,
    is_confirmed: bool,
    requests: Vec<Request>,
    last: u64,
    /// Ids of requests that nobody waits for any more.
    forgotten: VecDeque<Bytes>,
}

/// Which request is meant, since clients use their ids again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serial(u64);

/// A request without an answer yet.
struct Request {
    serial: Serial,
    /// Raw JSON.
    id: Bytes,
    is_posted: bool,
}

impl Waiting {
    /// Remembers what a message of the client means for the session; gives the number of a request.
    pub(super) fn note(&mut self, message: &Message) -> Option<Serial> {
        match &message.kind {
            Kind::Request(request) => {
                if request.method == Method::Initialize {
                    self.hello = Some(message.clone());
                    self.is_confirmed = false;
                }
                let id = message.slice(request.id);
                // Asked anew, its answer counts again.
                self.forgotten.retain(|forgotten| *forgotten != id);
                self.last += 1;
                let serial = Serial(self.last);
                self.requests.push(Request { serial, id, is_posted: false });
                return Some(serial);
            }
            Kind::Notification(notification) => match notification.method {
                Method::Initialized => self.is_confirmed = true,
                Method::Cancelled => {
                    if let Some(id) = notification.params.request_id {
                        let id = message.raw(id);
                        self.remove(|request| request.id == id);
                    }
                }
                _ => {}
            },
            Kind::Response(_) => {}
        }
        None
    }

    /// The request is on its way.
    pub(super) fn posted(&mut self, serial: Serial) {
        let mut requests = self.requests.iter_mut();
        if let Some(request) = requests.find(|request| request.serial == serial) {
            request.is_posted = true;
        }
    }

    /// Whether the answer to this request is waited for.
    pub(super) fn waits_for(&self, serial: Serial) -> bool {
        self.requests.iter().any(|request| request.serial == serial)
    }

    /// True if somebody waited for the answer.
    pub(super) fn forget(&mut self, serial: Serial) -> bool {
        self.remove(|request| request.serial == serial)
    }

    fn remove(&mut self, is_it: impl Fn(&Request) -> bool) -> bool {
        let Some(at) = self.requests.iter().position(is_it) else { return false };
        let request = self.requests.swap_remove(at);
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(request.id);
        true
    }

    /// Whether nobody waits for this answer any more; else it is waited for no longer.
    pub(super) fn is_late(&mut self, answer: &Message) -> bool {
        let Some(id) = answer.id() else { return false };
        let before = self.requests.len();
        self.requests.retain(|request| request.id != id);
        before == self.requests.len() && self.forgotten.iter().any(|forgotten| forgotten == id)
    }

    /// Ids of the posted requests, whose answers go with their stream.
    pub(super) fn lose_posted(&mut self) -> Vec<Bytes> {
        self.requests.extract_if(.., |it| it.is_posted).map(|it| it.id).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// What the client said first, if a session has begun with it.
    pub(super) fn hello(&self) -> Option<Message> {
        self.hello.clone().filter(|_| self.is_confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::parse;

    fn message(text: &'static str) -> Message {
        parse(text.into()).unwrap()
    }

    #[test]
    fn the_answer_to_an_id_that_is_asked_anew_is_not_late() {
        let mut waiting = Waiting::default();
        let asked = message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
        let answer = message(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
        let first = waiting.note(&asked).unwrap();
        assert!(waiting.forget(first));
        assert!(waiting.is_late(&answer));
        waiting.note(&asked);
        assert!(!waiting.forget(first), "its time is over, and not the new one's");
        assert!(!waiting.is_late(&answer), "somebody waits for it");
        assert!(waiting.is_empty());
    }
}
