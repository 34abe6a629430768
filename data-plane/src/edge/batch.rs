//! Batches, where one revision has them: sessions of 2025-03-26, here over Streamable HTTP. On
//! connections that stay open [`Pipe`](crate::transport::pipe::Pipe) serves them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request};

use super::{
    Edge, Known, parse,
    private::{self, Caller},
};
use crate::{
    engine::{Inbound, Sender, Served, legacy},
    error::{self, Failure},
    mcp::{
        Kind, Message, Version,
        message::{self, ParseError},
        version::{self, InboundEra},
    },
    transport::{
        batch::{self, Batch},
        body::Body,
        headers::Accepts,
        response,
    },
};

/// Most messages of one batch.
const MESSAGES_MAX: usize = 100;

/// What everybody else gets.
pub(crate) const NOT_HERE: Failure =
    Failure::InvalidRequest("batches are for sessions of 2025-03-26: send one message per request");

/// What batches are of.
const LEGACY: InboundEra = InboundEra::Legacy { header: None };

/// One element of a batch: a message, or what is wrong with it and its raw id.
pub(crate) type Element = Result<Message, (Failure, Option<Bytes>)>;

/// Reads a batch.
pub(crate) fn read(body: &Bytes) -> Result<Vec<Element>, Failure> {
    elements(split(body)?)
}

fn split(body: &Bytes) -> Result<Vec<Bytes>, Failure> {
    message::split(body, MESSAGES_MAX).map_err(|error| match error {
        ParseError::NotText => Failure::NotText,
        ParseError::NotJson => Failure::NotJson,
        ParseError::Invalid { problem, id: _ } => Failure::InvalidRequest(problem),
        ParseError::Batch => NOT_HERE,
    })
}

impl Edge {
    /// Serves all messages of a batch at the same time; those for other proxies one by one, before.
    pub(super) async fn batch(
        &self,
        (sender, parts): (Sender<'_>, &request::Parts),
        accepts: Accepts,
        body: &Bytes,
    ) -> Result<Response<Body>, Failure> {
        let messages = split(body)?;
        let known = legacy::open(&sender).map_err(|failure| match failure {
            Failure::SessionMissing => NOT_HERE,
            other => other,
        })?;
        if known.claims.version != Version::V2025_03_26 {
            return Err(NOT_HERE);
        }
        let header = sender.headers.and_then(|headers| headers.get(legacy::PROTOCOL_VERSION));
        version::check_session_version(header.map(HeaderValue::as_bytes), known.claims.version)?;
        let elements = elements(messages)?;
        let mut batch = Batch::default();
        for element in elements {
            match element {
                Ok(message) if self.may_be_elsewhere(&sender, &message, &LEGACY) => {
                    let id = message.id_bytes();
                    match self.whole_at_its_place(&sender, parts, &message).await {
                        Ok(Some(answer)) => batch.answer(answer),
                        Ok(None) => self.serve_one(&mut batch, &sender, &known, message).await,
                        Err(failure) => self.refuse_one(&mut batch, &failure, Some(&id)),
                    }
                }
                Ok(message) => self.serve_one(&mut batch, &sender, &known, message).await,
                Err((failure, id)) => {
                    let id = id.unwrap_or_else(|| Bytes::from_static(b"null"));
                    self.refuse_one(&mut batch, &failure, Some(&id));
                }
            }
        }
        if batch.is_empty() {
            return Ok(response::empty(StatusCode::ACCEPTED));
        }
        Ok(batch::render(batch, accepts, self.timeouts.keep_alive).await)
    }

    /// Serves an element here.
    async fn serve_one(
        &self,
        batch: &mut Batch,
        sender: &Sender<'_>,
        known: &Known,
        message: Message,
    ) {
        let id = matches!(message.kind, Kind::Request(_)).then(|| message.id_bytes());
        let mut sender = sender.clone();
        if private::is_private(&sender, &message) {
            self.look(&mut sender, &message, &Caller::of_session(&known.claims)).await;
        }
        let inbound = Inbound { sender, message };
        match legacy::serve_in(inbound, &known.claims, &known.live) {
            Ok(Served::Answer(answer) | Served::Began { answer, id: _ }) => {
                batch.answer(answer.into_bytes());
            }
            Ok(Served::Relay(exchange)) => batch.run(exchange),
            // Nobody can listen in a batch: the legacy era has no such request.
            Ok(Served::Accepted | Served::Listening(_)) => {}
            Err(failure) => self.refuse_one(batch, &failure, id.as_deref()),
        }
    }

    /// The answer of a host to an element that needs one; `None`: it is to be answered here.
    async fn whole_at_its_place(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        message: &Message,
    ) -> Result<Option<Bytes>, Failure> {
        let mut parts = parts.clone();
        // It is joined with the other answers.
        parts.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match self.at_its_place(sender, &parts, message, &LEGACY).await? {
            Some(answer) => self.whole(answer).await.map(Some),
            None => Ok(None),
        }
    }

    /// Answers an element that is not served; what expects no answer (`id` is none) gets none.
    fn refuse_one(&self, batch: &mut Batch, failure: &Failure, id: Option<&[u8]>) {
        failure.log();
        self.telemetry().refused(failure);
        if id.is_some() {
            batch.answer(error::response(failure, id));
        }
    }
}

/// Reads the messages, and refuses what no batch may be.
fn elements(messages: Vec<Bytes>) -> Result<Vec<Element>, Failure> {
    let read = |body| {
        let mut id = None;
        parse(body, &mut id).map_err(|failure| (failure, id))
    };
    let elements: Vec<_> = messages.into_iter().map(read).collect();
    if elements.is_empty() {
        return Err(Failure::InvalidRequest("the batch is empty"));
    }
    let read = || elements.iter().flatten();
    if read().any(legacy::is_initialize) {
        return Err(Failure::InvalidRequest("`initialize` may not be in a batch"));
    }
    let is_legacy =
        |message| matches!(version::era_of_body(message), Ok(InboundEra::Legacy { .. }));
    if !read().all(is_legacy) {
        return Err(NOT_HERE);
    }
    let responses = read().filter(|message| matches!(message.kind, Kind::Response(_))).count();
    if responses != 0 && responses != elements.len() {
        let problem = "a batch has requests and notifications, or responses";
        return Err(Failure::InvalidRequest(problem));
    }
    Ok(elements)
}
