//! The event stream of one call: read incrementally, resumed where the upstream allows it.

use std::{collections::VecDeque, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use proto::Era;
use tokio::task::consume_budget;

use super::{aside::Aside, endpoint::Endpoint, session::Session};
use crate::{
    egress::OriginBody,
    mcp::{
        Message, Notice,
        message::{is_batch, parse},
    },
    upstream::{
        Event,
        audience::Said,
        batch,
        failure::CallFailure,
        fetch::{self, Bounds},
        patience::Patience,
        question::{self, Back, Question},
        relay::{Relay, Taken},
        sse::Decoder,
    },
};

/// How often one call's stream is resumed without a message on it.
const RESUMES_MAX: u32 = 100;
const RETRY_DEFAULT: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long the beginning of a stream may take to come after what was asked beside it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// A call in flight whose answer is a stream. Dropping it cancels the call.
pub(crate) struct HttpConversation {
    endpoint: Arc<Endpoint>,
    source: Source,
    decoder: Decoder,
    /// What came in one with others.
    waiting: VecDeque<Message>,
    relay: Relay,
    patience: Patience,
    resumes: u32,
    cancel: Cancel,
}

type Resuming = Pin<Box<dyn Future<Output = Result<OriginBody, CallFailure>> + Send>>;

enum Source {
    Reading(OriginBody),
    Resuming(Resuming),
    /// All has come.
    Ended,
}

impl fmt::Debug for HttpConversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpConversation")
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

/// Tells a legacy upstream when a call is given up. A modern one sees its stream close.
#[derive(Debug)]
pub(crate) struct Cancel {
    session: Option<Arc<Session>>,
    /// Raw JSON; `None` once there is nothing to cancel any more.
    id: Option<Bytes>,
    aside: Aside,
    /// What was asked beside the call.
    asked: Option<Question>,
}

impl Cancel {
    pub(crate) fn new(session: Option<Arc<Session>>, id: Bytes) -> Self {
        Self { session, id: Some(id), aside: Aside::default(), asked: None }
    }

    /// From now on the call is asked what the upstream asks beside it.
    pub(crate) fn enlist(&mut self) {
        if let Some(session) = &self.session {
            self.aside = session.asides.enlist();
        }
    }

    /// From now on it is not: nobody would hear it.
    pub(crate) fn unlist(&mut self) {
        (self.aside, self.asked) = (Aside::default(), None);
    }

    /// The head of the answer. What is asked before it comes is kept for the stream that it
    /// may begin; if none does, the upstream waits for an answer that nobody gives.
    pub(crate) async fn head<T>(&mut self, posted: impl Future<Output = T>) -> T {
        let mut posted = std::pin::pin!(posted);
        tokio::select! {
            biased;
            head = &mut posted => return head,
            question = self.aside.next() => self.asked = Some(question),
        }
        if let Ok(head) = tokio::time::timeout(HEAD_TIMEOUT, &mut posted).await {
            return head;
        }
        self.unlist();
        posted.await
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    fn has_batches(&self) -> bool {
        self.session().is_some_and(Session::has_batches)
    }

    /// The upstream is done with the call.
    pub(crate) fn done(&mut self) {
        self.id = None;
    }

    /// The call failed; if that is because we lost patience, the upstream still works on it.
    pub(crate) fn failed(&mut self, failure: &CallFailure) {
        if !matches!(failure, CallFailure::Silent(_) | CallFailure::TooLong(_)) {
            self.done();
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if let (Some(session), Some(id)) = (&self.session, &self.id) {
            session.cancel(id);
        }
    }
}

impl HttpConversation {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        body: OriginBody,
        relay: Relay,
        bounds: Bounds,
        cancel: Cancel,
    ) -> Self {
        Self::from_source(endpoint, Source::Reading(body), relay, bounds, cancel)
    }

    /// Messages that came as one answer.
    pub(crate) fn of_several(
        endpoint: Arc<Endpoint>,
        messages: VecDeque<Message>,
        relay: Relay,
        bounds: Bounds,
        cancel: Cancel,
    ) -> Self {
        let several = Self::from_source(endpoint, Source::Ended, relay, bounds, cancel);
        Self { waiting: messages, ..several }
    }

    fn from_source(
        endpoint: Arc<Endpoint>,
        source: Source,
        relay: Relay,
        bounds: Bounds,
        cancel: Cancel,
    ) -> Self {
        Self {
            endpoint,
            source,
            decoder: Decoder::new(bounds.message_max),
            waiting: VecDeque::new(),
            relay,
            patience: Patience::new(bounds),
            resumes: 0,
            cancel,
        }
    }

    /// What the upstream speaks: only the legacy era has sessions.
    pub(crate) fn era(&self) -> Era {
        if self.cancel.session.is_some() { Era::Legacy } else { Era::Modern }
    }

    /// The next message for the client, with its error code. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<(Event, Option<i64>), CallFailure> {
        let result = self.advance().await;
        match &result {
            Ok((Event::Notification(_) | Event::Request(_) | Event::Withdrawn(_), _)) => (),
            Ok((Event::Response(_) | Event::InputRequired(_), _)) => self.cancel.done(),
            Err(failure) => self.cancel.failed(failure),
        }
        result
    }

    async fn advance(&mut self) -> Result<(Event, Option<i64>), CallFailure> {
        let limit = self.patience.bounds.message_max;
        loop {
            // One who never stops talking leaves room for others.
            consume_budget().await;
            if let Some(question) = self.cancel.asked.take() {
                self.patience.heard();
                return Ok((Event::Request(question.during(self.patience.open())), None));
            }
            let Some(message) = self.message(limit)? else {
                self.read().await?;
                continue;
            };
            // Comments and unknown chatter are no sign of progress; messages are.
            self.patience.heard();
            self.resumes = 0;
            if let Some(event) = self.take(message)? {
                return Ok(event);
            }
        }
    }

    /// The next message that is here already.
    fn message(&mut self, limit: usize) -> Result<Option<Message>, CallFailure> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(Some(message));
        }
        while let Some(event) = self.decoder.next().map_err(|_| CallFailure::TooLarge { limit })? {
            if !event.is_message() {
                continue;
            }
            if is_batch(&event.data) && self.cancel.has_batches() {
                self.waiting = batch::messages(&event.data)?;
                if let Some(message) = self.waiting.pop_front() {
                    return Ok(Some(message));
                }
                continue;
            }
            let message = parse(event.data);
            return message.map(Some).map_err(|error| CallFailure::NotJsonRpc(error.to_string()));
        }
        Ok(None)
    }

    fn take(&mut self, message: Message) -> Result<Option<(Event, Option<i64>)>, CallFailure> {
        match self.relay.take(message, self.endpoint.health.name())? {
            Taken::Response { body, code } => return Ok(Some((Event::Response(body), code))),
            Taken::Notification(body) => return Ok(Some((Event::Notification(body), None))),
            Taken::Request(request) => {
                return Ok(self.question(request).map(|it| (Event::Request(it), None)));
            }
            Taken::InputRequired { message, code } => {
                return Ok(Some((Event::InputRequired(message), code)));
            }
            Taken::Withdrawn(id) => return Ok(Some((Event::Withdrawn(id), None))),
            Taken::ListChanged(notice) => {
                let owner = self.cancel.session.as_ref().and_then(|session| session.owner());
                self.endpoint.health.list_changed(owner, notice);
            }
            Taken::ResourceUpdated(message) => {
                if let Some(session) = &self.cancel.session {
                    session.pass_on(Said::Notice(Notice::ResourceUpdated, message));
                }
            }
            Taken::TaskStatus(message) => {
                if let Some(session) = &self.cancel.session {
                    session.pass_on(Said::Notice(Notice::TaskStatus, message));
                }
            }
            Taken::Nothing => (),
        }
        Ok(None)
    }

    /// What the upstream asks, unless we can answer it ourselves.
    fn question(&self, message: Box<Message>) -> Option<Question> {
        // Modern upstreams may not ask at all and take no answers.
        let session = self.cancel.session.as_ref()?;
        if question::is_ping(&message) {
            session.say(question::refusal_of(&message));
            return None;
        }
        let back = Back::Http(Arc::clone(session));
        let question = Question::new(message, back, self.patience.open());
        Some(question.within(self.relay.tasks()))
    }

    /// Reads the next piece of the stream, or a step towards it.
    async fn read(&mut self) -> Result<(), CallFailure> {
        match &mut self.source {
            Source::Reading(body) => {
                let aside = &mut self.cancel.aside;
                let heard = async {
                    tokio::select! {
                        biased;
                        chunk = fetch::chunk(body) => Ok(chunk),
                        question = aside.next() => Err(question),
                    }
                };
                match self.patience.wait(heard).await? {
                    Ok(Ok(Some(chunk))) => self.decoder.push(chunk),
                    Ok(Ok(None)) => self.resume(CallFailure::NoResponse)?,
                    Ok(Err(failure @ CallFailure::Broken(_))) => self.resume(failure)?,
                    Ok(Err(failure)) => return Err(failure),
                    Err(question) => self.cancel.asked = Some(question),
                }
            }
            Source::Resuming(resuming) => {
                let body = self.patience.wait(resuming).await??;
                self.source = Source::Reading(body);
            }
            Source::Ended => return Err(CallFailure::NoResponse),
        }
        Ok(())
    }

    /// Goes on where the stream ended, if it gave ids (MCP 2025-11-25, resumability).
    fn resume(&mut self, failure: CallFailure) -> Result<(), CallFailure> {
        let (Some(session), Some(last)) = (&self.cancel.session, self.decoder.last_id()) else {
            return Err(failure);
        };
        if self.resumes >= RESUMES_MAX {
            return Err(failure);
        }
        self.resumes += 1;
        let wait = self.decoder.retry_ms.map_or(RETRY_DEFAULT, Duration::from_millis);
        let (session, last) = (Arc::clone(session), last.clone());
        let (endpoint, bounds) = (Arc::clone(&self.endpoint), self.patience.bounds);
        self.decoder = self.decoder.reopened();
        self.source = Source::Resuming(Box::pin(async move {
            tokio::time::sleep(wait.min(RETRY_MAX)).await;
            endpoint.resume(session.headers.clone(), &last, &bounds).await
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{http::aside::Asides, testing::question};

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_before_the_answer_begins_is_kept_for_a_while() {
        let asides = Asides::default();
        let listed = || Cancel { session: None, id: None, aside: asides.enlist(), asked: None };
        let (mut stream, (asked, mut told)) = (listed(), question("1", r#""method":"roots/list""#));
        asides.ask(asked).unwrap();
        stream.head(tokio::time::sleep(HEAD_TIMEOUT / 2)).await;
        assert!(stream.asked.is_some() && told.try_recv().is_err());
        drop(stream);
        let (mut whole, (asked, mut told)) = (listed(), question("2", r#""method":"roots/list""#));
        asides.ask(asked).unwrap();
        // The upstream answers when it has heard that nobody answers.
        whole.head(told.recv()).await.unwrap();
        let (late, _told) = question("3", r#""method":"roots/list""#);
        assert!(asides.ask(late).is_err());
    }
}
