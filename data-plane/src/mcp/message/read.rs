//! Reads a message: one pass over the body that finds every span and checks the envelope.

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    Kind, Message, Meta, Notification, Outcome, Params, ParseError, Request, Response, ResultKey,
    Span, Text, meta_key,
};
use crate::mcp::{
    method::Method,
    object::{Cursor, Member, Unreadable, unquote},
};

/// Reads one message. The body is UTF-8 JSON without anything after it.
pub fn parse(body: Bytes) -> Result<Message, ParseError> {
    parse_knowing(ByteString::try_from(body).map_err(|_| ParseError::NotText)?, &[])
}

/// The same of a body that is known to be UTF-8, and some strings of it ([`LongStrings`]).
///
/// [`LongStrings`]: crate::mcp::object::LongStrings
pub(crate) fn parse_knowing(text: ByteString, known: &[Span]) -> Result<Message, ParseError> {
    let mut envelope = Envelope::default();
    envelope.read(Cursor::knowing(&text, known), &text).map_err(|unreadable| match unreadable {
        Unreadable::Syntax { at: _ } => ParseError::NotJson,
        Unreadable::TooManyKeys => {
            ParseError::Invalid { problem: "an object has too many keys", id: None }
        }
    })?;
    if envelope.is_batch {
        return Err(ParseError::Batch);
    }
    // The id of an answer is one that its receiver gave: an error under it would be an answer to
    // some request of the sender's own.
    let is_answer = envelope.result.is_some() || envelope.error.is_some();
    let id = envelope.id.filter(|id| !is_answer && is_id(id.of(&text)));
    match envelope.kind(&text) {
        Ok(kind) => Ok(Message { text, kind }),
        Err(problem) => {
            Err(ParseError::Invalid { problem, id: id.map(|id| id.shared(text.as_bytes())) })
        }
    }
}

/// Whether a body is a batch (JSON-RPC 2.0, batch).
pub fn is_batch(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

/// The messages of a batch (MCP 2025-03-26), not yet read; an error if there are more than `max`.
pub fn split(body: &Bytes, max: usize) -> Result<Vec<Bytes>, ParseError> {
    let text = std::str::from_utf8(body).map_err(|_| ParseError::NotText)?;
    let mut cursor = Cursor::new(text);
    let mut messages = Vec::new();
    let mut is_too_long = false;
    let walked = cursor.array(|cursor| {
        let span = cursor.value()?;
        is_too_long |= messages.len() >= max;
        if !is_too_long {
            messages.push(body.slice(span.start..span.end));
        }
        Ok(())
    });
    walked.and_then(|()| cursor.end()).map_err(|_| ParseError::NotJson)?;
    if is_too_long {
        return Err(ParseError::Invalid { problem: "the batch has too many messages", id: None });
    }
    Ok(messages)
}

/// A string or an integer (MCP: never null, no fraction).
fn is_id(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    raw.starts_with('"') || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Default)]
struct Envelope {
    is_batch: bool,
    jsonrpc: Option<Span>,
    id: Option<Span>,
    method: Option<Span>,
    params: Params,
    result: Option<(Span, Vec<Member<ResultKey>>)>,
    error: Option<Span>,
    problem: Option<&'static str>,
}

impl Envelope {
    fn read(&mut self, mut cursor: Cursor<'_>, text: &str) -> Result<(), Unreadable> {
        if cursor.peek() == Some(b'{') {
            let envelope = cursor.object(|cursor, name, _| self.field(cursor, &name, text))?;
            if envelope.has_duplicates {
                // Whose id would it be?
                self.id = None;
                self.problem = Some("the message has a key twice");
            }
        } else {
            self.is_batch = cursor.peek() == Some(b'[');
            cursor.value()?;
            self.problem = Some("the message is not an object");
        }
        cursor.end()
    }

    fn field(&mut self, cursor: &mut Cursor<'_>, name: &str, text: &str) -> Result<(), Unreadable> {
        match name {
            "jsonrpc" => self.jsonrpc = Some(cursor.value()?),
            "id" => self.id = Some(cursor.value()?),
            "method" => self.method = Some(cursor.value()?),
            "params" if cursor.peek() == Some(b'{') => {
                if let Some(problem) = self.params.read(cursor, text)? {
                    self.problem = Some(problem);
                }
            }
            "params" => {
                cursor.value()?;
                self.problem = Some("`params` is not an object");
            }
            "result" => self.result = Some(result(cursor)?),
            "error" => self.error = Some(cursor.value()?),
            _ => drop(cursor.value()?),
        }
        Ok(())
    }

    fn kind(self, text: &str) -> Result<Kind, &'static str> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let is = |span: Option<Span>, wanted: &str| {
            span.and_then(|span| unquote(span.of(text))).is_some_and(|value| value == wanted)
        };
        if !is(self.jsonrpc, "2.0") {
            return Err("`jsonrpc` is not \"2.0\"");
        }
        let Some(method_span) = self.method else {
            return self.response(text);
        };
        if self.result.is_some() || self.error.is_some() {
            return Err("the message is both a request and a response");
        }
        let name = unquote(method_span.of(text)).ok_or("`method` is not a string")?;
        let method = Method::from(&*name);
        let params = self.params;
        match self.id {
            None => Ok(Kind::Notification(Notification { method, method_span, params })),
            Some(id) if is_id(id.of(text)) => {
                Ok(Kind::Request(Request { id, method, method_span, params }))
            }
            Some(_) => Err("`id` is neither a string nor an integer"),
        }
    }

    fn response(self, text: &str) -> Result<Kind, &'static str> {
        let outcome = match (self.result, self.error) {
            (Some((span, members)), None) => Outcome::Result { span, members },
            (None, Some(error)) => Outcome::Error(error),
            (Some(_), Some(_)) => return Err("the response has both `result` and `error`"),
            (None, None) => {
                return Err("the message has neither `method` nor `result` nor `error`");
            }
        };
        let id = self.id.filter(|id| id.of(text) != "null");
        if id.is_some_and(|id| !is_id(id.of(text))) {
            return Err("`id` is neither a string nor an integer");
        }
        if id.is_none() && matches!(outcome, Outcome::Result { .. }) {
            return Err("the response has no `id`");
        }
        Ok(Kind::Response(Response { id, outcome }))
    }
}

fn result(cursor: &mut Cursor<'_>) -> Result<(Span, Vec<Member<ResultKey>>), Unreadable> {
    let mut members = Vec::new();
    if cursor.peek() != Some(b'{') {
        return Ok((cursor.value()?, members));
    }
    let object = cursor.object(|cursor, name, key| {
        let name = match &*name {
            "resultType" => ResultKey::ResultType,
            "ttlMs" => ResultKey::TtlMs,
            "cacheScope" => ResultKey::CacheScope,
            "_meta" => ResultKey::Meta,
            "structuredContent" => ResultKey::StructuredContent,
            "inputRequests" => ResultKey::InputRequests,
            "error" => ResultKey::Error,
            _ => ResultKey::Other,
        };
        members.push(Member { name, key, value: cursor.value()? });
        Ok(())
    })?;
    Ok((object.span, members))
}

fn text_at(cursor: &mut Cursor<'_>, text: &str) -> Result<Option<Text>, Unreadable> {
    let span = cursor.value()?;
    Ok(Some(Text { span, value: unquote(span.of(text)).map(|value| (*value).into()) }))
}

impl Params {
    /// Reads the object at the cursor; `Some` names what is wrong with it.
    fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
    ) -> Result<Option<&'static str>, Unreadable> {
        let mut problem = None;
        let object = cursor.object(|cursor, name, _| {
            match &*name {
                "name" => self.name = text_at(cursor, text)?,
                "uri" => self.uri = text_at(cursor, text)?,
                "ref" => self.reference = Some(cursor.value()?),
                "arguments" => self.arguments = Some(cursor.value()?),
                "_meta" if cursor.peek() == Some(b'{') => {
                    problem = problem.or(self.meta.read(cursor, text)?);
                }
                "_meta" => {
                    cursor.value()?;
                    problem = Some("`params._meta` is not an object");
                }
                "protocolVersion" => self.protocol_version = text_at(cursor, text)?,
                "capabilities" => self.capabilities = Some(cursor.value()?),
                "clientInfo" => self.client_info = Some(cursor.value()?),
                "cursor" => self.cursor = Some(cursor.value()?),
                "requestId" => self.request_id = Some(cursor.value()?),
                "progressToken" => self.progress_token = Some(cursor.value()?),
                "requestState" => self.request_state = Some(cursor.value()?),
                _ => drop(cursor.value()?),
            }
            Ok(())
        })?;
        self.span = Some(object.span);
        Ok(if object.has_duplicates { Some("`params` has a key twice") } else { problem })
    }
}

impl Meta {
    fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
    ) -> Result<Option<&'static str>, Unreadable> {
        let object = cursor.object(|cursor, name, _| {
            match &*name {
                meta_key::PROTOCOL_VERSION => self.protocol_version = text_at(cursor, text)?,
                meta_key::CLIENT_CAPABILITIES => self.client_capabilities = Some(cursor.value()?),
                meta_key::CLIENT_INFO => self.client_info = Some(cursor.value()?),
                meta_key::LOG_LEVEL => self.log_level = text_at(cursor, text)?,
                meta_key::PROGRESS_TOKEN => self.progress_token = Some(cursor.value()?),
                _ => drop(cursor.value()?),
            }
            Ok(())
        })?;
        self.span = Some(object.span);
        Ok(object.has_duplicates.then_some("`params._meta` has a key twice"))
    }
}
