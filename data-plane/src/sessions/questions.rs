//! The requests that a client has been sent and has not answered yet.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::{Live, Ticket, calls::Cancel};
use crate::{
    mcp::{
        Capabilities, Message, Version, addressee::Addressee, elicitation::Askers,
        extension::Hears, notice::cancelled,
    },
    upstream::Question,
};

/// Requests that one client may owe answers to at the same time.
const PENDING_MAX: usize = 64;

/// What a client can be asked, how long it may think about it, and how it is spoken to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks {
    pub(crate) capabilities: Capabilities,
    pub(crate) patience: Duration,
    pub(crate) version: Version,
    pub(crate) hears: Hears,
    pub(crate) askers: Askers,
}

impl Asks {
    fn addressee<'q>(&self, question: &'q Question) -> Addressee<'q> {
        let Self { capabilities, version, askers, .. } = *self;
        let asker = question.asker().and_then(|asker| askers.named(asker));
        Addressee { capabilities, version, asker }
    }
}

/// The unanswered requests of one session.
#[derive(Debug)]
pub(super) struct Questions {
    last_id: u64,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// Under which the client knows it.
    id: u64,
    question: Question,
    /// The call that it was asked with; it need not belong to it.
    with: Option<Arc<Cancel>>,
    _expiry: AbortOnDropHandle<()>,
}

impl Default for Questions {
    fn default() -> Self {
        // Answers to what was asked before a restart must not fit what is asked after it.
        Self { last_id: u64::from(rand::random::<u32>()), pending: Vec::new() }
    }
}

impl Live {
    /// Takes a question of an upstream for the client: the request to send it. `None`: the
    /// client cannot be asked that, and the upstream has been told.
    pub(crate) fn ask(
        self: &Arc<Self>,
        question: Question,
        call: Option<&Ticket>,
        asks: Asks,
    ) -> Option<Bytes> {
        let to = asks.addressee(&question);
        let is_able = to.takes(question.message()) || asks.hears.answers(question.method());
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let mut questions = self.questions.lock();
        if !is_able || self.has_ended() || questions.pending.len() >= PENDING_MAX {
            drop(questions);
            return None;
        }
        questions.last_id += 1;
        let id = questions.last_id;
        let live = Arc::downgrade(self);
        let expiry = runtime.spawn(async move {
            tokio::time::sleep(asks.patience).await;
            if let Some(live) = live.upgrade() {
                live.expire(id);
            }
        });
        let request = question.under(id.to_string().as_bytes(), &to);
        let with = call.map(|call| Arc::clone(&call.cancel));
        let pending = Pending { id, question, with, _expiry: AbortOnDropHandle::new(expiry) };
        questions.pending.push(pending);
        Some(request)
    }

    /// Whether there is a question that this response answers.
    pub(crate) fn has_asked(&self, response: &Message) -> bool {
        let id = response.id().and_then(number);
        self.questions.lock().pending.iter().any(|pending| Some(pending.id) == id)
    }

    /// Gives the client's response to who asked; false if nobody did.
    pub(crate) fn answer(&self, response: &Message) -> bool {
        let id = response.id().and_then(number);
        let asked = id.and_then(|id| self.take(|it| it.id == id));
        asked.map(|asked| asked.question.answer(response)).is_some()
    }

    /// The client has thought for too long: it need not ask its user any more.
    fn expire(&self, id: u64) {
        let Some(Pending { question, with, .. }) = self.take(|it| it.id == id) else { return };
        question.expire();
        self.take_back(id, with.as_deref());
    }

    /// Tells the client that nobody waits for its answer: on the stream of the call that it was
    /// asked with, where it may be the only one, as long as there is that.
    fn take_back(&self, id: u64, with: Option<&Cancel>) {
        let told = cancelled(id.to_string().as_bytes());
        let untold = match with {
            Some(call) => call.take_back(told),
            None => Some(told),
        };
        if let Some(told) = untold {
            self.tell(told);
        }
    }

    /// Gives the client's progress to who asked; what nobody waits for is dropped.
    pub(crate) fn progress(&self, notification: &Message) {
        let token = notification.params().and_then(|params| params.progress_token);
        let id = token.and_then(|token| number(notification.raw(token)));
        let questions = self.questions.lock();
        if let Some(asked) = questions.pending.iter().find(|it| Some(it.id) == id) {
            asked.question.progress(notification);
        }
    }

    /// The upstream takes back its request `id` (raw JSON) of this call: what to tell the client.
    pub(super) fn withdraw(&self, id: &[u8], call: &Ticket) -> Option<Bytes> {
        let withdrawn = self.take(|it| it.is_of(call) && it.question.id() == id)?;
        withdrawn.question.withdraw();
        Some(cancelled(withdrawn.id.to_string().as_bytes()))
    }

    /// The upstream takes back its request `id` (raw JSON) that belongs to no call.
    pub(super) fn withdraw_outside(&self, id: &[u8]) {
        let withdrawn = self.take(|it| it.is_outside() && it.question.id() == id);
        let Some(Pending { id, question, with, .. }) = withdrawn else { return };
        question.withdraw();
        self.take_back(id, with.as_deref());
    }

    /// The call is over: nobody waits for answers to what it asked. What to tell the client.
    pub(super) fn forget_questions(&self, call: &Ticket) -> Vec<Bytes> {
        let mut questions = self.questions.lock();
        let forgotten: Vec<_> = questions.pending.extract_if(.., |it| it.is_of(call)).collect();
        drop(questions);
        let told = forgotten.iter().map(|it| cancelled(it.id.to_string().as_bytes()));
        told.collect()
    }

    /// The session is over.
    pub(super) fn forget_all_questions(&self) {
        let forgotten = std::mem::take(&mut self.questions.lock().pending);
        drop(forgotten);
    }

    fn take(&self, is_it: impl FnMut(&Pending) -> bool) -> Option<Pending> {
        let mut questions = self.questions.lock();
        let at = questions.pending.iter().position(is_it)?;
        Some(questions.pending.swap_remove(at))
    }
}

impl Pending {
    /// Whether it ends with this call.
    fn is_of(&self, call: &Ticket) -> bool {
        let is_with = self.with.as_ref().is_some_and(|it| Arc::ptr_eq(it, &call.cancel));
        is_with && self.question.is_of_call()
    }

    /// Whether it ends with no call.
    fn is_outside(&self) -> bool {
        self.with.is_none() || !self.question.is_of_call()
    }
}

/// An id as we give it.
fn number(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
