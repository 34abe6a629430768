//! One JSON-RPC message: read in one pass, never copied, described by spans of its body.
//!
//! Duplicate keys in the envelope, in `params` and in `_meta` are refused, since two
//! readers might take different ones. Everything unknown stays where it is.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    method::Method,
    object::{Cursor, Member, Syntax, unquote},
};

pub use super::object::Span;

/// `_meta` keys that the modern era reserves (MCP 2026-07-28, basic).
pub mod meta_key {
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub const PROGRESS_TOKEN: &str = "progressToken";
}

/// A message and what was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// UTF-8, checked.
    pub body: Bytes,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Request(Request),
    Notification(Notification),
    Response(Response),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A string or an integer, as written.
    pub id: Span,
    pub method: Method,
    pub method_span: Span,
    pub params: Params,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub method: Method,
    pub method_span: Span,
    pub params: Params,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Absent or null only in errors about unreadable requests.
    pub id: Option<Span>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `members` is empty if the result is no object.
    Result {
        span: Span,
        members: Vec<Member<ResultKey>>,
    },
    Error(Span),
}

/// The members of results that differ between eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKey {
    ResultType,
    TtlMs,
    CacheScope,
    Meta,
    StructuredContent,
    Other,
}

/// A member that should be a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The value as written, quotes included.
    pub span: Span,
    value: Option<Box<str>>,
}

impl Text {
    /// The string; `None` if the value is something else.
    pub fn as_str(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

/// The parameters that anything in the gateway looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// From `{` to `}`; `None` if there are no parameters.
    pub span: Option<Span>,
    pub name: Option<Text>,
    pub arguments: Option<Span>,
    pub meta: Meta,
    /// Of `initialize`.
    pub protocol_version: Option<Text>,
    /// Of `initialize`.
    pub capabilities: Option<Span>,
    /// Of `initialize`.
    pub client_info: Option<Span>,
    pub cursor: Option<Span>,
    /// Of `notifications/cancelled`.
    pub request_id: Option<Span>,
    /// Of `notifications/progress`.
    pub progress_token: Option<Span>,
}

/// `params._meta`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub span: Option<Span>,
    /// Its presence claims the modern era.
    pub protocol_version: Option<Text>,
    pub client_capabilities: Option<Span>,
    pub client_info: Option<Span>,
    pub log_level: Option<Text>,
    pub progress_token: Option<Span>,
}

/// Why a body is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the body is not JSON")]
    NotJson,
    #[error("batches are not supported: send one message per request")]
    Batch,
    /// `id` is the raw id, where one could be read.
    #[error("{problem}")]
    Invalid { problem: &'static str, id: Option<Bytes> },
}

impl Message {
    /// The body as text.
    pub fn text(&self) -> &str {
        // Checked by `parse`; a body that someone swapped reads as empty.
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The bytes under a span.
    pub fn raw(&self, span: Span) -> &[u8] {
        self.body.get(span.start..span.end).unwrap_or_default()
    }

    /// The bytes under a span, sharing the body.
    pub fn slice(&self, span: Span) -> Bytes {
        if span.start <= span.end && span.end <= self.body.len() {
            return self.body.slice(span.start..span.end);
        }
        Bytes::new()
    }

    /// The raw id of a request or response.
    pub fn id(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Request(request) => Some(self.raw(request.id)),
            Kind::Response(response) => response.id.map(|id| self.raw(id)),
            Kind::Notification(_) => None,
        }
    }

    /// The raw id of a request or response, sharing the body; empty if there is none.
    pub fn id_bytes(&self) -> Bytes {
        match &self.kind {
            Kind::Request(request) => self.slice(request.id),
            Kind::Response(response) => response.id.map(|id| self.slice(id)).unwrap_or_default(),
            Kind::Notification(_) => Bytes::new(),
        }
    }

    /// The parameters of a request or notification.
    pub fn params(&self) -> Option<&Params> {
        match &self.kind {
            Kind::Request(request) => Some(&request.params),
            Kind::Notification(notification) => Some(&notification.params),
            Kind::Response(_) => None,
        }
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&Method> {
        match &self.kind {
            Kind::Request(request) => Some(&request.method),
            Kind::Notification(notification) => Some(&notification.method),
            Kind::Response(_) => None,
        }
    }
}

/// Reads one message. The body is UTF-8 JSON without anything after it.
pub fn parse(body: Bytes) -> Result<Message, ParseError> {
    let text = std::str::from_utf8(&body).map_err(|_| ParseError::NotJson)?;
    let mut envelope = Envelope::default();
    envelope.read(text).map_err(|Syntax { .. }| ParseError::NotJson)?;
    if envelope.is_batch {
        return Err(ParseError::Batch);
    }
    let id = envelope.id.filter(|id| is_id(id.of(text)));
    match envelope.kind(text) {
        Ok(kind) => Ok(Message { body, kind }),
        Err(problem) => {
            Err(ParseError::Invalid { problem, id: id.map(|id| body.slice(id.start..id.end)) })
        }
    }
}

/// `body` with the bytes under each span replaced; all other bytes stay. Spans must not overlap.
pub fn splice(body: &[u8], edits: &[(Span, &[u8])]) -> Bytes {
    let mut edits: Vec<_> = edits.iter().collect();
    // Insertions come before what starts at the same place.
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut at = 0;
    for (span, text) in edits {
        debug_assert!(at <= span.start && span.start <= span.end, "overlapping edits");
        out.put_slice(body.get(at..span.start).unwrap_or_default());
        out.put_slice(text);
        at = span.end;
    }
    out.put_slice(body.get(at..).unwrap_or_default());
    out.freeze()
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
    fn read(&mut self, text: &str) -> Result<(), Syntax> {
        let mut cursor = Cursor::new(text);
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

    fn field(&mut self, cursor: &mut Cursor<'_>, name: &str, text: &str) -> Result<(), Syntax> {
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

fn result(cursor: &mut Cursor<'_>) -> Result<(Span, Vec<Member<ResultKey>>), Syntax> {
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
            _ => ResultKey::Other,
        };
        members.push(Member { name, key, value: cursor.value()? });
        Ok(())
    })?;
    Ok((object.span, members))
}

fn text_at(cursor: &mut Cursor<'_>, text: &str) -> Result<Option<Text>, Syntax> {
    let span = cursor.value()?;
    Ok(Some(Text { span, value: unquote(span.of(text)).map(|value| (*value).into()) }))
}

impl Params {
    /// Reads the object at the cursor; `Some` names what is wrong with it.
    fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
    ) -> Result<Option<&'static str>, Syntax> {
        let mut problem = None;
        let object = cursor.object(|cursor, name, _| {
            match &*name {
                "name" => self.name = text_at(cursor, text)?,
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
    ) -> Result<Option<&'static str>, Syntax> {
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

#[cfg(test)]
mod tests;
