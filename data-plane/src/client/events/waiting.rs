//! What the client of an HTTP+SSE session waits for, and what a new stream has to begin with.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::reply::Reply,
    mcp::{Kind, Message, Method},
};

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
    reply: Reply,
    /// Tells who waits for it that nobody does any more.
    is_over: Option<DropGuard>,
}

/// What a response means to the client.
pub(super) enum Heard {
    Awaited(Reply),
    /// Nobody waits for it any more.
    Late,
    /// No request of the client is known for it.
    Unknown,
}

impl Waiting {
    /// Remembers what a message of the client means for the session; gives the number of a request.
    pub(super) fn note(&mut self, message: &Message, reply: Reply) -> Option<Serial> {
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
                self.requests.push(Request { serial, id, is_posted: false, reply, is_over: None });
                return Some(serial);
            }
            Kind::Notification(notification) => match notification.method {
                Method::Initialized => self.is_confirmed = true,
                Method::Cancelled => {
                    if let Some(id) = notification.params.request_id {
                        let id = message.raw(id);
                        drop(self.remove(|request| request.id == id));
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

    /// Fires when the answer to this request is waited for no longer; nothing if it is not.
    pub(super) fn over(&mut self, serial: Serial) -> Option<CancellationToken> {
        let request = self.requests.iter_mut().find(|request| request.serial == serial)?;
        let over = CancellationToken::new();
        request.is_over = Some(over.clone().drop_guard());
        Some(over)
    }

    /// Where the answer would have gone, if somebody waited for it.
    pub(super) fn forget(&mut self, serial: Serial) -> Option<Reply> {
        self.remove(|request| request.serial == serial)
    }

    /// Nobody waits for anything any more.
    pub(super) fn give_up(&mut self) {
        self.requests.clear();
    }

    fn remove(&mut self, is_it: impl Fn(&Request) -> bool) -> Option<Reply> {
        let at = self.requests.iter().position(is_it)?;
        let request = self.requests.swap_remove(at);
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(request.id);
        Some(request.reply)
    }

    /// What a response means; it is waited for no longer.
    pub(super) fn hear(&mut self, answer: &Message) -> Heard {
        let Some(id) = answer.id() else { return Heard::Unknown };
        // Nothing tells requests with the same id apart.
        let mut answered = self.requests.extract_if(.., |request| request.id == id);
        match answered.next() {
            Some(request) => {
                answered.for_each(drop);
                Heard::Awaited(request.reply)
            }
            None if self.forgotten.iter().any(|forgotten| forgotten == id) => Heard::Late,
            None => Heard::Unknown,
        }
    }

    /// The posted requests, by their ids, whose answers go with their stream.
    pub(super) fn lose_posted(&mut self) -> Vec<(Bytes, Reply)> {
        let lost = self.requests.extract_if(.., |it| it.is_posted);
        lost.map(|it| (it.id, it.reply)).collect()
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
    use crate::{client::end::ClientEnd, mcp::message::parse};

    fn message(text: &'static str) -> Message {
        parse(text.into()).unwrap()
    }

    #[test]
    fn who_waits_with_a_request_is_told_of_its_end() {
        let mut waiting = Waiting::default();
        let (client, _messages) = ClientEnd::open();
        let asked = message(r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#);
        let serial = waiting.note(&asked, Reply::Alone(client)).unwrap();
        let over = waiting.over(serial).unwrap();
        assert!(!over.is_cancelled());
        drop(waiting.hear(&message(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#)));
        assert!(over.is_cancelled());
        assert!(waiting.over(serial).is_none());
    }

    #[test]
    fn the_answer_to_an_id_that_is_asked_anew_is_not_late() {
        let mut waiting = Waiting::default();
        let (client, _messages) = ClientEnd::open();
        let reply = || Reply::Alone(client.clone());
        let asked = message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
        let answer = message(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
        let first = waiting.note(&asked, reply()).unwrap();
        assert!(waiting.forget(first).is_some());
        assert!(matches!(waiting.hear(&answer), Heard::Late));
        waiting.note(&asked, reply());
        assert!(waiting.forget(first).is_none(), "its time is over, and not the new one's");
        assert!(matches!(waiting.hear(&answer), Heard::Awaited(_)));
        assert!(waiting.is_empty());
    }
}
