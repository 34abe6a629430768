//! One JSON-RPC message: read in one pass, never copied, described by spans of its body.
//!
//! Duplicate keys in the envelope, in `params` and in `_meta` are refused, since two
//! readers might take different ones. Everything unknown stays where it is.

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use super::{method::Method, object::Member};

mod read;

pub(crate) use self::read::parse_knowing;
pub use self::read::{is_batch, parse, split};
pub use super::object::Span;

/// `_meta` keys that the modern era reserves (MCP 2026-07-28, basic).
pub mod meta_key {
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    pub const PROGRESS_TOKEN: &str = "progressToken";
}

/// A message and what was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    text: ByteString,
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

/// The members of results that differ between eras, or ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKey {
    ResultType,
    TtlMs,
    CacheScope,
    Meta,
    StructuredContent,
    InputRequests,
    Error,
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
    /// Of what asks for a resource.
    pub uri: Option<Text>,
    /// `ref` of `completion/complete`.
    pub reference: Option<Span>,
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
    /// What a client brings back that was asked for input (MCP 2026-07-28, MRTR).
    pub request_state: Option<Span>,
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
    #[error("the body is not UTF-8")]
    NotText,
    #[error("the body is not JSON")]
    NotJson,
    #[error("batches are not supported: send one message per request")]
    Batch,
    /// `id` is the raw id, where one could be read.
    #[error("{problem}")]
    Invalid { problem: &'static str, id: Option<Bytes> },
}

impl Message {
    /// The body as text, which was checked when it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same, sharing it.
    pub fn shared_text(&self) -> ByteString {
        self.text.clone()
    }

    pub fn body(&self) -> &Bytes {
        self.text.as_bytes()
    }

    pub fn into_body(self) -> Bytes {
        self.text.into_bytes()
    }

    /// The bytes under a span.
    pub fn raw(&self, span: Span) -> &[u8] {
        self.body().get(span.start..span.end).unwrap_or_default()
    }

    /// The bytes under a span, sharing the body.
    pub fn slice(&self, span: Span) -> Bytes {
        span.shared(self.body())
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

/// `body` with the bytes under each span replaced; all other bytes stay. Spans must not overlap.
pub fn splice<T: AsRef<[u8]>>(body: &[u8], edits: &[(Span, T)]) -> Bytes {
    // Insertions come before what starts at the same place.
    let place = |(span, _): &(Span, T)| (span.start, span.end);
    if edits.is_sorted_by_key(place) {
        return joined(body, edits.iter());
    }
    let mut sorted: Vec<_> = edits.iter().collect();
    sorted.sort_by_key(|edit| place(edit));
    joined(body, sorted.into_iter())
}

fn joined<'a, T: AsRef<[u8]> + 'a>(
    body: &[u8],
    edits: impl Iterator<Item = &'a (Span, T)> + Clone,
) -> Bytes {
    let added: usize = edits.clone().map(|(_, text)| text.as_ref().len()).sum();
    let removed: usize = edits.clone().map(|(span, _)| span.end.saturating_sub(span.start)).sum();
    // Exactly what is needed: a buffer with room to spare is wrapped once more when it is shared.
    let mut out = BytesMut::with_capacity((body.len() + added).saturating_sub(removed));
    let mut at = 0;
    for (span, text) in edits {
        debug_assert!(at <= span.start && span.start <= span.end, "overlapping edits");
        out.put_slice(body.get(at..span.start).unwrap_or_default());
        out.put_slice(text.as_ref());
        at = span.end;
    }
    out.put_slice(body.get(at..).unwrap_or_default());
    out.freeze()
}

#[cfg(test)]
mod tests;
