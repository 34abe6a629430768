//! What the server says, sorted: for which call it is, or for nobody in particular.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{super::asked::cancelled, Connection, Heard, Work, asking::Asking};
use crate::{
    mcp::{
        Kind, Message, Notice,
        message::{Notification, is_batch, parse},
        object::unquote,
        subscription::subscription_of,
        task,
    },
    upstream::{
        audience::Said,
        batch,
        failure::CallFailure,
        spawner::{Ended, Listener},
    },
};

impl Listener for Connection {
    fn line(&self, line: Bytes) {
        let is_ours = memchr::memmem::find(&line, b"\"jsonrpc\"").is_some();
        if is_ours && is_batch(&line) && self.has_batches.load(Ordering::Relaxed) {
            return self.hear_batch(&line);
        }
        match parse(line) {
            Ok(message) => self.hear(message),
            // Many servers print their own words among the messages.
            Err(_) if !is_ours => tracing::debug!("a server sent something else than messages"),
            Err(error) => {
                if let Some(call) = self.only_call() {
                    call.try_send(Err(CallFailure::NotJsonRpc(error.to_string()))).ok();
                }
            }
        }
    }

    fn ended(&self, end: Ended) {
        self.end(CallFailure::Exited(end));
    }
}

impl Connection {
    /// Hears several messages that came in one.
    fn hear_batch(&self, line: &Bytes) {
        let (messages, failure) = batch::readable(line);
        // Before the others are heard, which may answer all calls but one.
        let only = failure.is_some().then(|| self.only_call()).flatten();
        for message in messages {
            self.hear(message);
        }
        if let (Some(failure), Some(call)) = (failure, only) {
            call.try_send(Err(failure)).ok();
        }
    }

    /// The only call in flight, to which things without a name must belong. Our own requests,
    /// some of which last as long as the pipe, count only where there is nothing else.
    fn only_call(&self) -> Option<mpsc::Sender<Heard>> {
        let is_work = self.calls.iter().any(|call| call.work.is_some());
        let mut calls = self.calls.iter().filter(|call| call.work.is_some() == is_work);
        let only = calls.next().map(|call| call.heard.clone());
        only.filter(|_| calls.next().is_none())
    }

    /// The call that waits for the result of the task that a message belongs to.
    pub(super) fn call_of_task(&self, message: &Message) -> Option<u64> {
        let task = unquote(task::related(message)?.of(message.text()))?;
        let is_it = |work: &Option<Work>| matches!(work, Some(Work::Task(it)) if **it == *task);
        self.calls.iter().find(|call| is_it(&call.work)).map(|call| *call.key())
    }

    pub(super) fn heard_by(&self, call: u64) -> Option<mpsc::Sender<Heard>> {
        Some(self.calls.get(&call)?.heard.clone())
    }

    fn hear(&self, message: Message) {
        match &message.kind {
            Kind::Response(_) => self.hear_response(message),
            Kind::Notification(notification) => {
                // A client that reads slowly misses some; there is always room for the answer.
                match self.call_of(&message, notification) {
                    Some(call) if call.capacity() > 1 => drop(call.try_send(Ok(message))),
                    Some(_) => (),
                    None => self.notice(message),
                }
            }
            Kind::Request(_) => self.hear_request(message),
        }
    }

    fn hear_response(&self, message: Message) {
        let id = message.id().and_then(number);
        let late = self.next_id.load(Ordering::Relaxed);
        match id.and_then(|id| self.calls.remove(&id)) {
            Some((_, call)) => {
                self.note_quiet(&call, &message);
                drop(call.heard.try_send(Ok(message)));
            }
            // A late answer to a cancelled call.
            None if id.is_some_and(|id| id < late) => (),
            None => {
                if let Some(call) = self.only_call() {
                    call.try_send(Err(CallFailure::WrongId)).ok();
                }
            }
        }
    }

    fn call_of(
        &self,
        message: &Message,
        notification: &Notification,
    ) -> Option<mpsc::Sender<Heard>> {
        let notice = Notice::of(notification.method.as_str())?;
        // What belongs to a subscription of ours is for who holds it.
        let subscription = subscription_of(message).and_then(number);
        if let Some(heard) = subscription.and_then(|call| self.heard_by(call)) {
            return Some(heard);
        }
        match notice {
            Notice::Progress => {
                let token = notification.params.progress_token?;
                self.heard_by(number(message.raw(token))?)
            }
            Notice::Log if !self.is_of_one_client() => self.only_call(),
            Notice::Cancelled => {
                let asked = cancelled(message)?;
                self.heard_by(self.asked.find(&asked)?.1?)
            }
            Notice::Log | Notice::ElicitationComplete => match self.asking() {
                Asking::Call(call) | Asking::With(call) => self.heard_by(call),
                Asking::Nobody => None,
            },
            Notice::ToolsChanged | Notice::PromptsChanged | Notice::ResourcesChanged => {
                self.health.list_changed(self.owner.as_ref(), notice);
                None
            }
            Notice::ResourceUpdated => {
                // Else it is for the owner alone.
                if self.owner.is_none() {
                    self.health.updated(message);
                }
                None
            }
            Notice::TaskStatus => {
                self.health.task_changed(message);
                None
            }
            Notice::Acknowledged => None,
        }
    }

    /// Passes on what belongs to no call, if it can be said whose it is.
    fn notice(&self, message: Message) {
        let Some(owner) = &self.owner else { return };
        let notice = message.method().and_then(|method| Notice::of(method.as_str()));
        let Some(notice) = notice else {
            return self.health.say(owner, Said::Extension(Box::new(message)));
        };
        match notice {
            Notice::ToolsChanged
            | Notice::PromptsChanged
            | Notice::ResourcesChanged
            | Notice::TaskStatus => (),
            Notice::Progress
            | Notice::Log
            | Notice::Cancelled
            | Notice::ElicitationComplete
            | Notice::ResourceUpdated
            | Notice::Acknowledged => {
                self.health.say(owner, Said::Notice(notice, Box::new(message)));
            }
        }
    }
}

/// An id as we give it.
pub(super) fn number(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}
