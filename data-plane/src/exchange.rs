//! One client request while an upstream works on it.
//!
//! A modern client cancels by going away. A legacy client does not: its call
//! belongs to the session, so an exchange that is dropped early goes on as a
//! task of its own until the upstream answers, the session ends or the client
//! cancels it by name. What it says meanwhile waits on its stream for a client
//! that comes back.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::{
    drain::Drain,
    engine::rounds::Rounds,
    error::{self, Failure},
    limit::Permit,
    mcp::{Message, Pieces, Version},
    sessions::{
        Asks, Ticket,
        channel::{End, Outlet, Reader},
    },
    telemetry::Operation,
    upstream::{self, CallError, Events, Question, Reply},
};

/// What an upstream says during a call.
pub(crate) type Heard = Result<upstream::Event, CallError>;
/// All that it says.
pub(crate) type Heards = Pin<Box<dyn Stream<Item = Heard> + Send>>;

/// A call that has been handed to an upstream.
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send>>;

/// How a call ends when nobody reads its answer any more.
pub(crate) enum Owner {
    /// With its request; the client may have to ask again.
    Request { rounds: Option<Box<Rounds>> },
    /// With its session. The drain is told when the call goes on without its request.
    Session { ticket: Ticket, asks: Asks, drain: Drain },
}

impl Owner {
    /// An upstream's answer as the client may have it.
    fn answer(&self, body: Pieces) -> Pieces {
        match self {
            Self::Request { rounds: Some(rounds) } => rounds.answer(body),
            Self::Request { rounds: None } | Self::Session { .. } => body,
        }
    }

    /// An upstream's answer that wants input, as the client is asked; `None` if it cannot be.
    fn asked(&self, answer: &Message) -> Option<Pieces> {
        match self {
            Self::Request { rounds: Some(rounds) } => Some(rounds.asked(answer).into()),
            Self::Request { rounds: None } | Self::Session { .. } => None,
        }
    }

    /// An upstream's notification as the client may have it.
    fn told(&self, body: Bytes) -> Option<Bytes> {
        match self {
            Self::Request { rounds: Some(rounds) } => rounds.told(body),
            Self::Request { rounds: None } | Self::Session { .. } => Some(body),
        }
    }
}

/// One message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A notification or a request of the upstream.
    Message(Bytes),
    /// The last event.
    Response(Pieces),
}

impl Event {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Message(body) => body,
            Self::Response(body) => body.into_bytes(),
        }
    }
}

/// A call and the way to its answer.
pub(crate) struct Exchange {
    state: State,
    /// The client's id, as written.
    id: Bytes,
    owner: Owner,
    operation: Operation,
    /// Its place among all running calls.
    permit: Option<Permit>,
    /// It has no stream on which the client could be asked.
    is_mute: bool,
    /// The client has been asked something.
    has_asked: bool,
    /// Where its messages go when nobody polls it any more, for a client that comes back.
    outlet: Option<Arc<Outlet>>,
}

enum State {
    Calling(Call),
    Relaying(Heards),
    /// Questions are taken back before the answer.
    Ending(Box<Ending>),
    Done,
}

struct Ending {
    told: Vec<Bytes>,
    answer: Pieces,
}

impl Exchange {
    pub(crate) fn new(
        call: Call,
        id: Bytes,
        owner: Owner,
        operation: Operation,
        permit: Permit,
    ) -> Self {
        let (state, permit) = (State::Calling(call), Some(permit));
        Self { state, id, owner, operation, permit, is_mute: false, has_asked: false, outlet: None }
    }

    /// A call that goes on after its client was asked. `id` is of the request that it answers.
    pub(crate) fn resumed(
        events: Heards,
        (id, owner): (Bytes, Owner),
        operation: Operation,
        permit: Permit,
    ) -> Self {
        let (state, permit) = (State::Relaying(events), Some(permit));
        Self { state, id, owner, operation, permit, is_mute: false, has_asked: false, outlet: None }
    }

    /// The next message for the client. Failures are responses too; `None` after the response.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Owner::Session { ticket, .. } = &self.owner
            && matches!(self.state, State::Calling(_) | State::Relaying(_))
            && ticket.poll_cancelled(cx).is_ready()
        {
            return self.fail(&Failure::Cancelled);
        }
        if self.has_asked
            && let Some(message) = self.taken_back()
        {
            return Poll::Ready(Some(Event::Message(message)));
        }
        loop {
            let next = match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Ending(ending) => {
                    if let Some(told) = ending.told.pop() {
                        return Poll::Ready(Some(Event::Message(told)));
                    }
                    let answer = std::mem::take(&mut ending.answer);
                    self.state = State::Done;
                    return Poll::Ready(Some(Event::Response(answer)));
                }
                State::Calling(call) => match call.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => Some(Err(error)),
                    Poll::Ready(Ok(Reply::Response(body))) => {
                        Some(Ok(upstream::Event::Response(body)))
                    }
                    Poll::Ready(Ok(Reply::InputRequired(answer))) => {
                        Some(Ok(upstream::Event::InputRequired(answer)))
                    }
                    Poll::Ready(Ok(Reply::Events(events))) => {
                        self.state = State::Relaying(relay(events));
                        continue;
                    }
                },
                State::Relaying(events) => match events.poll_next_unpin(cx) {
                    Poll::Pending => return self.poll_round(cx),
                    Poll::Ready(next) => next,
                },
            };
            let message = match next {
                Some(Ok(upstream::Event::Response(body))) => {
                    self.operation.succeed();
                    let answer = self.owner.answer(body);
                    return self.end(answer);
                }
                Some(Ok(upstream::Event::InputRequired(answer))) => {
                    return self.want(&answer);
                }
                Some(Ok(upstream::Event::Notification(body))) => self.owner.told(body),
                Some(Ok(upstream::Event::Request(question))) => self.ask(question),
                Some(Ok(upstream::Event::Withdrawn(id))) => self.withdraw(&id),
                Some(Err(error)) => return self.fail(&Failure::Call(error)),
                None => return self.fail(&Failure::NoResponse),
            };
            if let Some(message) = message {
                return Poll::Ready(Some(Event::Message(message)));
            }
        }
    }

    /// An answer that wants input, or tells of an error that may mean so, as its client may have it.
    fn want(&mut self, answer: &Message) -> Poll<Option<Event>> {
        let Some(question) = self.owner.asked(answer) else {
            return self.fail(&Failure::NobodyToAsk);
        };
        self.operation.succeed();
        self.end(question)
    }

    /// The client is asked if it can be; who asked learns that it cannot when the question is
    /// dropped. A modern client is asked by an answer, later.
    fn ask(&mut self, question: Question) -> Option<Bytes> {
        match &mut self.owner {
            Owner::Session { ticket, asks, .. } if !self.is_mute => {
                self.has_asked = true;
                ticket.ask(question, *asks)
            }
            Owner::Session { ticket, asks, .. } => {
                self.has_asked = true;
                ticket.ask_aside(question, *asks);
                None
            }
            Owner::Request { rounds: Some(rounds) } => {
                rounds.ask(question);
                None
            }
            Owner::Request { rounds: None } => None,
        }
    }

    fn withdraw(&mut self, id: &[u8]) -> Option<Bytes> {
        match &mut self.owner {
            Owner::Session { ticket, .. } if !self.is_mute => ticket.withdraw(id),
            Owner::Session { ticket, .. } => {
                if let Some(told) = ticket.withdraw(id) {
                    ticket.tell_aside(told);
                }
                None
            }
            Owner::Request { rounds } => {
                if let Some(rounds) = rounds {
                    rounds.withdraw(id);
                }
                None
            }
        }
    }

    /// While the upstream says nothing: a modern client is asked what it wants to know.
    fn poll_round(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Owner::Request { rounds: Some(rounds) } = &mut self.owner else {
            return Poll::Pending;
        };
        std::task::ready!(rounds.poll_due(cx));
        let State::Relaying(events) = std::mem::replace(&mut self.state, State::Done) else {
            return Poll::Ready(None);
        };
        match rounds.park(events) {
            Ok(question) => {
                self.operation.succeed();
                Poll::Ready(Some(Event::Response(question.into())))
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// The stream that this exchange's messages travel on, if its client can go on reading it
    /// elsewhere, and the version that decides what such streams look like. Whoever polls the
    /// exchange has to [`deliver`](Self::deliver) what comes.
    pub(crate) fn stream(&mut self) -> Option<(Reader, Version)> {
        let Owner::Session { ticket, asks, .. } = &self.owner else { return None };
        let reader = ticket.attach();
        self.outlet = Some(Arc::clone(reader.outlet()));
        Some((reader, asks.version))
    }

    /// Puts a message on the exchange's stream; gives it back if there is none.
    pub(crate) fn deliver(&self, event: Event) -> Option<Event> {
        let Some(outlet) = &self.outlet else { return Some(event) };
        match event {
            Event::Message(message) => outlet.push(message),
            Event::Response(message) => {
                outlet.push(message.into_bytes());
                outlet.end(End::Done);
            }
        }
        None
    }

    /// The next message for the client.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The response, without the messages before it; the client is asked on other streams.
    pub(crate) async fn response(&mut self) -> Option<Pieces> {
        self.is_mute = true;
        while let Some(event) = self.next().await {
            if let Event::Response(body) = event {
                return Some(body);
            }
        }
        None
    }

    /// Ends it before anything of it was sent: the answer that says why.
    pub(crate) fn refuse(mut self, failure: &Failure) -> Bytes {
        self.state = State::Done;
        self.operation.fail(failure);
        failure.log();
        error::response(failure, Some(&self.id))
    }

    fn fail(&mut self, failure: &Failure) -> Poll<Option<Event>> {
        self.operation.fail(failure);
        failure.log();
        self.end(error::response(failure, Some(&self.id)).into())
    }

    /// The answer, after what the client is told of questions that are open still.
    fn end(&mut self, answer: Pieces) -> Poll<Option<Event>> {
        self.state = State::Done;
        if let (true, Owner::Session { ticket, .. }) = (self.has_asked, &self.owner) {
            let mut told = ticket.take_back();
            if self.is_mute {
                told.drain(..).for_each(|told| ticket.tell_aside(told));
            }
            if let Some(first) = told.pop() {
                self.state = State::Ending(Box::new(Ending { told, answer }));
                return Poll::Ready(Some(Event::Message(first)));
            }
        }
        Poll::Ready(Some(Event::Response(answer)))
    }

    /// What to tell the client of a question that has expired.
    fn taken_back(&self) -> Option<Bytes> {
        let Owner::Session { ticket, .. } = &self.owner else { return None };
        if !self.is_mute {
            return ticket.taken_back();
        }
        while let Some(told) = ticket.taken_back() {
            ticket.tell_aside(told);
        }
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if matches!(state, State::Done) {
            return;
        }
        let owner = std::mem::replace(&mut self.owner, Owner::Request { rounds: None });
        let (Owner::Session { drain, .. }, Ok(runtime)) =
            (&owner, tokio::runtime::Handle::try_current())
        else {
            self.operation.fail(&Failure::Cancelled);
            return;
        };
        let held = drain.hold();
        let mut rest = Self {
            state,
            id: std::mem::take(&mut self.id),
            owner,
            operation: self.operation.take(),
            permit: self.permit.take(),
            is_mute: self.outlet.is_none(),
            has_asked: self.has_asked,
            outlet: self.outlet.take(),
        };
        runtime.spawn(async move {
            while let Some(event) = rest.next().await {
                rest.deliver(event);
            }
            drop(held);
        });
    }
}

fn relay(events: Events) -> Heards {
    Box::pin(stream::unfold(events, |mut events| async move {
        let next = events.next().await?;
        Some((next, events))
    }))
}

#[cfg(test)]
mod tests;
