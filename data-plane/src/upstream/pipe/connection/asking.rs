//! Whose a server's questions are, and what becomes of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use super::{super::asked::Serial, Caller, Connection, Work};
use crate::{
    mcp::{
        Kind, Message,
        message::{Outcome, Response},
    },
    upstream::{
        audience::Said,
        question::{self, Back, Open, Question},
    },
};

/// To which call a question belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Call(u64),
    /// It is travelling with this one, and all are of one client.
    With(u64),
    Nobody,
}

impl Connection {
    /// The call that asks: the only one in flight, or the only one that may. Where all are of
    /// one client, it travels with one that does.
    pub(super) fn asking(&self) -> Asking {
        let (mut calls, mut tasks) = (Vec::new(), Vec::new());
        for call in &self.calls {
            match &call.work {
                Some(Work::Call(tool)) => calls.push((*call.key(), Arc::clone(tool))),
                Some(Work::Task(_)) => tasks.push(*call.key()),
                None => (),
            }
        }
        match (calls.as_slice(), tasks.as_slice()) {
            ([(only, _)], _) | ([], [only]) => return Asking::Call(*only),
            ([], _) => return Asking::Nobody,
            (_, _) => (),
        }
        if self.is_of_one_client() {
            let asks = calls.iter().filter(|(_, tool)| self.turns.asks(tool));
            let newest = asks.max_by_key(|(id, _)| id).or(calls.iter().max_by_key(|(id, _)| id));
            return newest.map_or(Asking::Nobody, |(id, _)| Asking::With(*id));
        }
        let mut may_ask = calls.iter().filter(|(_, tool)| self.turns.may_ask(tool));
        match (may_ask.next(), may_ask.next()) {
            // Who waits for an answer is not likely to ask more.
            (Some((only, _)), None) if self.asked.since(*only).is_none() => Asking::Call(*only),
            (_, _) => Asking::Nobody,
        }
    }

    fn note_asking(&self, call: u64) {
        if let Some(call) = self.calls.get(&call)
            && let Some(Work::Call(tool)) = &call.work
        {
            self.turns.has_asked(tool);
        }
    }

    /// Nobody knows which call has asked: next time these take turns.
    pub(super) fn suspect_all(&self) {
        for mut call in self.calls.iter_mut() {
            call.is_suspect = true;
            if let Some(Work::Call(tool)) = &call.work {
                self.turns.may_have_asked(tool);
            }
        }
    }

    /// A call has its answer.
    pub(super) fn note_quiet(&self, call: &Caller, answer: &Message) {
        if let (Some(Work::Call(tool)), false) = (&call.work, call.is_suspect)
            && let Kind::Response(Response { outcome: Outcome::Result { .. }, .. }) = &answer.kind
        {
            self.turns.was_quiet(tool);
        }
    }

    /// A request outside of all calls goes to the client whose pipe it is.
    pub(super) fn ask_owner(&self, message: Message) {
        let (Some(owner), Some(me)) = (&self.owner, self.me.upgrade()) else {
            return self.refuse(&message);
        };
        let question = Question::new(Box::new(message), Back::Pipe(me, None), Open::default());
        self.health.say(owner, Said::Request(question));
    }

    /// Hands a request to the call that it belongs to. A sign of life we give ourselves.
    pub(super) fn hear_request(&self, message: Message) {
        if question::is_ping(&message) {
            return self.refuse(&message);
        }
        let asking = match self.call_of_task(&message) {
            Some(call) => Asking::Call(call),
            None => self.asking(),
        };
        let (call, owner) = match asking {
            Asking::Call(call) => (call, Some(call)),
            Asking::With(call) => (call, None),
            Asking::Nobody => {
                self.suspect_all();
                return self.ask_owner(message);
            }
        };
        if let Asking::Call(call) = asking {
            self.note_asking(call);
        }
        let heard = self.heard_by(call).filter(|call| call.capacity() > 1);
        let Some(heard) = heard else { return self.ask_owner(message) };
        self.asked.note(&message, owner);
        if let Err(TrySendError::Full(Ok(message)) | TrySendError::Closed(Ok(message))) =
            heard.try_send(Ok(message))
        {
            self.unheard(message);
        }
    }

    /// A request that a call heard, as a question; while `open` lives, the call may be silent.
    pub(in crate::upstream) fn question(
        &self,
        request: Box<Message>,
        open: Open,
    ) -> Option<Question> {
        let found = self.asked.find(question::id_of(&request));
        let back = Back::Pipe(self.me.upgrade()?, found.map(|(serial, _)| serial));
        let question = Question::new(request, back, open);
        let is_of_call = found.is_some_and(|(_, call)| call.is_some());
        Some(if is_of_call { question } else { question.beside() })
    }

    /// Refuses what a call heard.
    pub(in crate::upstream) fn refuse_asked(&self, request: &Message) {
        let found = self.asked.find(question::id_of(request));
        self.answer(found.map(|(serial, _)| serial), question::refusal_of(request));
    }

    /// Since when a call waits for an answer of its client.
    pub(in crate::upstream) fn asked_since(&self, call: u64) -> Option<Instant> {
        self.asked.since(call)
    }

    /// The client of a call had its time for what it was asked before `before`.
    pub(in crate::upstream) fn expire(&self, call: u64, before: Instant) {
        for request in self.asked.expire(call, before) {
            self.notify(question::expiry_of(&request)).ok();
        }
    }

    /// Answers what was asked as `serial`, unless that is too late.
    pub(in crate::upstream) fn answer(&self, serial: Option<Serial>, answer: Bytes) {
        if serial.is_none_or(|serial| self.asked.close(serial)) {
            // A server that is gone need not hear it.
            self.notify(answer).ok();
        }
    }

    /// The server took back what it asked as `serial`.
    pub(in crate::upstream) fn withdrawn(&self, serial: Option<Serial>) {
        serial.map(|serial| self.asked.close(serial));
    }

    /// The call that a request was to be heard with is over.
    pub(super) fn unheard(&self, message: Message) {
        let found = self.asked.find(question::id_of(&message));
        if let Some((serial, None)) = found {
            self.asked.close(serial);
            return self.ask_owner(message);
        }
        self.refuse_asked(&message);
    }
}
