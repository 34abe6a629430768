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
    /// Ids of requests that nobody waits for any more.
    forgotten: VecDeque<Bytes>,
}

/// A request without an answer yet.
struct Request {
    /// Raw JSON.
    id: Bytes,
    is_posted: bool,
}

impl Waiting {
    /// Remembers what a message of the client means for the session.
    pub(super) fn note(&mut self, message: &Message) {
        match &message.kind {
            Kind::Request(request) => {
                if request.method == Method::Initialize {
                    self.hello = Some(message.clone());
                    self.is_confirmed = false;
                }
                let id = message.slice(request.id);
                // Asked anew, its answer counts again.
                self.forgotten.retain(|forgotten| *forgotten != id);
                self.requests.push(Request { id, is_posted: false });
            }
            Kind::Notification(notification) => match notification.method {
                Method::Initialized => self.is_confirmed = true,
                Method::Cancelled => {
                    if let Some(id) = notification.params.request_id {
                        self.forget(message.raw(id));
                    }
                }
                _ => {}
            },
            Kind::Response(_) => {}
        }
    }

    /// The request with this id is on its way.
    pub(super) fn posted(&mut self, id: &[u8]) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == id) {
            request.is_posted = true;
        }
    }

    /// Whether the answer to this request is waited for.
    pub(super) fn waits_for(&self, id: &[u8]) -> bool {
        self.requests.iter().any(|request| request.id == id)
    }

    /// True if somebody waited for the answer.
    pub(super) fn forget(&mut self, id: &[u8]) -> bool {
        let Some(at) = self.requests.iter().position(|request| request.id == id) else {
            return false;
        };
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
        waiting.note(&asked);
        assert!(waiting.forget(b"0"));
        assert!(waiting.is_late(&answer));
        waiting.note(&asked);
        assert!(!waiting.is_late(&answer), "somebody waits for it");
        assert!(waiting.is_empty());
    }
}
