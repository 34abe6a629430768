//! Batches of sessions of 2025-03-26 (MCP 2025-03-26, transports): the messages run at the same
//! time, what is said on the way to their answers goes out at once, the answers as one array.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::{Begun, Pipe};
use crate::{
    edge::batch::{self, Element},
    error::Failure,
    mcp::{Kind, Message, Method, Version, message::is_batch},
    transport::batch::joined,
};

/// Batches of one pipe whose answers are awaited at the same time.
const RUNNING_MAX: usize = 8;

/// Room for so many.
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(RUNNING_MAX)))
    }
}

/// What a message leads to: an answer, if it expects one and is not cancelled.
enum Answering {
    Now(Option<Bytes>),
    Later(Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>),
}

impl Pipe {
    /// The messages of a body, if it is a batch and its client has such.
    pub(crate) fn batch_in(&self, body: &Bytes) -> Option<Result<Vec<Element>, Failure>> {
        let has_batches = || {
            let session = self.session.get();
            session.is_some_and(|session| session.claims.version == Version::V2025_03_26)
        };
        (is_batch(body) && has_batches()).then(|| batch::read(body))
    }

    /// Takes the messages of a batch. Fails as [`take`](Self::take) does.
    pub(crate) async fn take_all(self: &Arc<Self>, batch: Vec<Element>) -> Result<(), Failure> {
        let (mut answers, mut answering) = (Vec::new(), Vec::new());
        let place = Arc::clone(&self.batches.0).try_acquire_owned().ok();
        for element in batch {
            match element {
                Ok(message) if place.is_none() && matches!(message.kind, Kind::Request(_)) => {
                    answers.push(self.refusal(&Failure::TooManyCalls, Some(&message.id_bytes())));
                }
                Ok(message) => match self.answering(message).await? {
                    Answering::Now(answer) => answers.extend(answer),
                    Answering::Later(work) => answering.push(work),
                },
                Err((failure, id)) => answers.push(self.refusal(&failure, id.as_deref())),
            }
        }
        if answering.is_empty() {
            // As after one message: who does not read its answers is not read.
            if !answers.is_empty() {
                self.say(joined(&answers)).await;
            }
            return Ok(());
        }
        let pipe = Arc::clone(self);
        let rest = async move {
            answers.extend(join_all(answering).await.into_iter().flatten());
            if !answers.is_empty() {
                pipe.say(joined(&answers)).await;
            }
            drop(place);
        };
        // Each call in it has a place of its own, and ends when the pipe does.
        self.work.spawn(rest);
        Ok(())
    }

    /// What a message leads to.
    async fn answering(self: &Arc<Self>, message: Message) -> Result<Answering, Failure> {
        if message.method() == Some(&Method::Listen) {
            let failure = Failure::InvalidRequest("nobody can listen in a batch");
            return Ok(Answering::Now(Some(self.refusal(&failure, Some(&message.id_bytes())))));
        }
        let id = message.id_bytes();
        let begun = self.begin(message).await?;
        if let Begun::Done(answer) = begun {
            return Ok(Answering::Now(answer));
        }
        let place = match self.enlist(&id) {
            Ok(place) => place,
            Err(failure) => {
                let refused = match begun {
                    Begun::Relay(exchange) => exchange.refuse(&failure),
                    Begun::Done(_) | Begun::Carry(..) | Begun::Listening(_) => {
                        self.refusal(&failure, Some(&id))
                    }
                };
                return Ok(Answering::Now(Some(refused)));
            }
        };
        let pipe = Arc::clone(self);
        let work = async move {
            match begun {
                Begun::Relay(exchange) => pipe.pump(exchange).await,
                Begun::Carry(message, table, principal) => {
                    pipe.carry(*message, table, principal).await
                }
                Begun::Done(_) | Begun::Listening(_) => None,
            }
        };
        let wanted = async move { place.while_wanted(work).await.flatten() };
        Ok(Answering::Later(Box::pin(wanted)))
    }
}
