//! One client request while an upstream works on it.
//!
//! A modern client cancels by going away. A legacy client does not: its call
//! belongs to the session, so an exchange that is dropped early goes on as a
//! task of its own until the upstream answers, the session ends or the client
//! cancels it by name.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    error::{self, Failure},
    sessions::Ticket,
    telemetry::Operation,
    upstream::{CallError, Event, Events, Reply},
};

/// A call that has been handed to an upstream.
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send>>;

/// How a call ends when nobody reads its answer any more.
pub(crate) enum Owner {
    /// With its request.
    Request,
    /// With its session: see [`Ticket`].
    Session { ticket: Ticket, held: TaskTrackerToken },
}

/// A call and the way to its answer.
pub(crate) struct Exchange {
    state: State,
    /// The client's id, as written.
    id: Bytes,
    owner: Owner,
    operation: Operation,
}

enum State {
    Calling(Call),
    Relaying(Events),
    Done,
}

impl Exchange {
    pub(crate) fn new(call: Call, id: Bytes, owner: Owner, operation: Operation) -> Self {
        Self { state: State::Calling(call), id, owner, operation }
    }

    /// The next message for the client. Failures are responses too; `None` after the response.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Owner::Session { ticket, .. } = &self.owner
            && !matches!(self.state, State::Done)
            && ticket.poll_cancelled(cx).is_ready()
        {
            return self.fail(&Failure::Cancelled);
        }
        loop {
            let next = match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Calling(call) => match call.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => Some(Err(error)),
                    Poll::Ready(Ok(Reply::Response(body))) => Some(Ok(Event::Response(body))),
                    Poll::Ready(Ok(Reply::Events(events))) => {
                        self.state = State::Relaying(events);
                        continue;
                    }
                },
                // `next` keeps nothing between polls.
                State::Relaying(events) => match pin!(events.next()).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(next) => next,
                },
            };
            return match next {
                Some(Ok(Event::Response(body))) => {
                    self.state = State::Done;
                    self.operation.succeed();
                    Poll::Ready(Some(Event::Response(body)))
                }
                Some(Ok(notification)) => Poll::Ready(Some(notification)),
                Some(Err(error)) => self.fail(&Failure::Call(error)),
                None => self.fail(&Failure::NoResponse),
            };
        }
    }

    /// The next message for the client.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The response, without the notifications before it.
    pub(crate) async fn response(&mut self) -> Option<Bytes> {
        while let Some(event) = self.next().await {
            if let Event::Response(body) = event {
                return Some(body);
            }
        }
        None
    }

    fn fail(&mut self, failure: &Failure) -> Poll<Option<Event>> {
        self.state = State::Done;
        self.operation.fail(failure);
        failure.log();
        Poll::Ready(Some(Event::Response(error::response(failure, Some(&self.id)))))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if matches!(state, State::Done) {
            return;
        }
        let owner = std::mem::replace(&mut self.owner, Owner::Request);
        let (Owner::Session { .. }, Ok(runtime)) = (&owner, tokio::runtime::Handle::try_current())
        else {
            self.operation.fail(&Failure::Cancelled);
            return;
        };
        let operation = self.operation.take();
        let mut rest = Self { state, id: std::mem::take(&mut self.id), owner, operation };
        runtime.spawn(async move { while rest.next().await.is_some() {} });
    }
}
