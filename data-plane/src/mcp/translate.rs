//! Puts requests into an upstream's era and its answers into the client's, by splicing:
//! everything that is not named here keeps its bytes.

pub mod content;
mod errors;
mod updates;
mod uris;

use bytes::Bytes;
use proto::Era;

use self::{errors::error_to_client, uris::show_uris};
pub use self::{
    errors::with_pages,
    updates::{task_to_client, updated_to_client},
};
use super::{
    Capabilities, Level, Pieces, code, declared, logger,
    message::{Kind, Message, Outcome, Params, Response, ResultKey, Span, meta_key, splice},
    object::{self, Cursor, Member},
    response::{self, SERVER_INFO, quote},
    uri::Uris,
};

/// Where an upstream's own `serverInfo` is kept beside ours.
pub const UPSTREAM_SERVER_INFO: &str = "lockgate/upstreamServerInfo";

/// How an upstream wants to hear a request.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub era: Era,
    /// The version that its requests name in the modern era.
    pub version: &'a str,
    /// What is asked for, as it is called there.
    pub subject: Subject<'a>,
    /// Raw JSON that stands for the client's id; `None`: it passes verbatim.
    pub id: Option<&'a [u8]>,
    /// Raw JSON that stands for the client's progress token, if it sent one.
    pub progress_token: Option<&'a [u8]>,
    /// What its client can be asked for, towards modern upstreams.
    pub capabilities: Capabilities,
    /// All that a legacy client declares, if that is more; a modern one says it in each request.
    pub written: Option<&'a str>,
    /// The log messages that a modern upstream should send, unless the client has said so itself.
    pub log_level: Option<Level>,
}

/// The parameter that says what a request is about, with its value at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// `params.name`.
    Name(&'a str),
    /// `params.uri`.
    Uri(&'a str),
    /// `params.ref.name`.
    RefName(&'a str),
    /// `params.ref.uri`.
    RefUri(&'a str),
    /// `params.taskId`.
    Task(&'a str),
    /// `params.cursor`.
    Page(Option<&'a str>),
    /// No parameter that we know.
    Nothing,
}

/// Replacements in one body.
#[derive(Default)]
struct Edits(Vec<(Span, Vec<u8>)>);

impl Edits {
    fn replace(&mut self, span: Span, text: impl Into<Vec<u8>>) {
        self.0.push((span, text.into()));
    }

    fn insert(&mut self, at: usize, text: impl Into<Vec<u8>>) {
        self.replace(Span::at(at), text);
    }

    fn cut(&mut self, cuts: Vec<Span>) {
        self.0.extend(cuts.into_iter().map(|cut| (cut, Vec::new())));
    }

    /// Puts members in front of those of the object at `span`.
    fn prepend(&mut self, text: &str, span: Span, members: &str) {
        let is_empty = Cursor::starting_at(text, span.start + 1).peek() == Some(b'}');
        let comma = if is_empty { "" } else { "," };
        self.replace(Span::at(span.start + 1), format!("{members}{comma}"));
    }

    fn apply(self, body: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return body.clone();
        }
        splice(body, &self.0)
    }

    fn into_pieces(self, body: &Bytes) -> Pieces {
        Pieces::spliced(body, self.0)
    }
}

/// A request as its upstream shall see it: its subject under the name there.
pub fn request_to_upstream(message: &Message, terms: &Terms<'_>) -> Pieces {
    let mut edits = Edits::default();
    let Kind::Request(request) = &message.kind else {
        return message.body().clone().into();
    };
    if let Some(id) = terms.id {
        edits.replace(request.id, id);
    }
    rename(&mut edits, message, &request.params, terms.subject);
    if let (Some(token), Some(span)) = (terms.progress_token, request.params.meta.progress_token) {
        edits.replace(span, token);
    }
    match terms.era {
        Era::Legacy => strip_meta(&mut edits, message, &request.params),
        Era::Modern => claim_modern(&mut edits, message, request.method_span, terms),
    }
    edits.into_pieces(message.body())
}

fn rename(edits: &mut Edits, message: &Message, params: &Params, subject: Subject<'_>) {
    let text = message.text();
    if let Subject::Page(None) = subject {
        let members = params.span.map(|span| object::members(text, span)).unwrap_or_default();
        return edits.cut(object::cuts(&members, |member| member.name == "cursor"));
    }
    let mut put = |found: Option<&str>, span: Span, value: &str| {
        if found != Some(value) {
            edits.replace(span, quote(value));
        }
    };
    let (holder, key, value) = match subject {
        Subject::Name(value) => {
            if let Some(name) = &params.name {
                put(name.as_str(), name.span, value);
            }
            return;
        }
        Subject::Uri(value) => {
            if let Some(uri) = &params.uri {
                put(uri.as_str(), uri.span, value);
            }
            return;
        }
        Subject::RefName(value) => (params.reference, "name", value),
        Subject::RefUri(value) => (params.reference, "uri", value),
        Subject::Task(value) => (params.span, "taskId", value),
        Subject::Page(Some(value)) => (params.span, "cursor", value),
        Subject::Page(None) | Subject::Nothing => return,
    };
    if let Some(span) = holder.and_then(|span| object::member(text, span, key)) {
        put(object::unquote(span.of(text)).as_deref(), span, value);
    }
}

/// The keys by which a request claims the modern era.
fn is_claim(key: &str) -> bool {
    matches!(
        key,
        meta_key::PROTOCOL_VERSION
            | meta_key::CLIENT_INFO
            | meta_key::CLIENT_CAPABILITIES
            | meta_key::LOG_LEVEL
    )
}

fn strip_meta(edits: &mut Edits, message: &Message, params: &Params) {
    let meta = &params.meta;
    let is_modern = meta.protocol_version.is_some()
        || meta.client_capabilities.is_some()
        || meta.client_info.is_some()
        || meta.log_level.is_some();
    if let (true, Some(span)) = (is_modern, meta.span) {
        let members = object::members(message.text(), span);
        edits.cut(object::cuts(&members, |member| is_claim(&member.name)));
    }
}

/// We call in our own name, with what the client can be asked for.
fn claim_modern(edits: &mut Edits, message: &Message, method: Span, terms: &Terms<'_>) {
    let Some(params) = message.params() else { return };
    let meta = &params.meta;
    let claim = [
        (
            meta_key::PROTOCOL_VERSION,
            meta.protocol_version.as_ref().map(|text| text.span),
            Some(quote(terms.version)),
        ),
        (meta_key::CLIENT_INFO, meta.client_info, Some(SERVER_INFO.to_owned())),
        (
            meta_key::CLIENT_CAPABILITIES,
            meta.client_capabilities,
            declaration(message.text(), meta.client_capabilities, terms),
        ),
    ];
    let mut added = Vec::new();
    for (key, present, value) in claim {
        match (present, value) {
            (Some(span), Some(value)) => edits.replace(span, value),
            (None, Some(value)) => added.push(format!("\"{key}\":{value}")),
            (_, None) => (),
        }
    }
    if let (Some(level), None) = (terms.log_level, &meta.log_level) {
        added.push(format!("\"{}\":\"{}\"", meta_key::LOG_LEVEL, level.as_str()));
    }
    let added = added.join(",");
    match (meta.span, params.span) {
        _ if added.is_empty() => (),
        (Some(span), _) => edits.prepend(message.text(), span, &added),
        (None, Some(span)) => {
            edits.prepend(message.text(), span, &format!("\"_meta\":{{{added}}}"));
        }
        (None, None) => {
            let params = format!(",\"params\":{{\"_meta\":{{{added}}}}}");
            edits.replace(Span::at(method.end), params);
        }
    }
}

/// What a request says that its client declares; `None`: what is there already.
fn declaration(text: &str, present: Option<Span>, terms: &Terms<'_>) -> Option<String> {
    let own = present.map(|span| span.of(text));
    match own.or(terms.written) {
        None => Some(terms.capabilities.to_json()),
        Some(object) => declared::carried(object, terms.capabilities)
            .or_else(|| present.is_none().then(|| object.to_owned())),
    }
}

/// To whom an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    pub era: Era,
    /// Raw JSON.
    pub id: &'a [u8],
    /// Of `resources/read`: the URI as the client wrote it.
    pub asked_uri: Option<&'a str>,
    /// How the upstream's URIs are shown; `None`: as they are.
    pub uris: Option<&'a Uris>,
}

/// An upstream's response as the client shall see it: its id, its era, its URIs.
pub fn response_to_client(message: &Message, audience: &Audience<'_>) -> Pieces {
    let Audience { era: to, id, asked_uri, uris } = *audience;
    let Kind::Response(Response { id: Some(found), outcome }) = &message.kind else {
        return response::error(
            Some(id),
            code::INTERNAL_ERROR,
            "the upstream could not read the request",
            None,
        )
        .into();
    };
    let mut edits = Edits::default();
    if message.raw(*found) != id {
        edits.replace(*found, id);
    }
    match outcome {
        Outcome::Error(span) => error_to_client(&mut edits, message, *span, audience),
        Outcome::Result { span, members } => match to {
            Era::Modern => {
                let cacheable = asked_uri.map(|_| Cacheable);
                modern_result(&mut edits, message, (*span, members), cacheable);
            }
            Era::Legacy => {
                if asks_for_more(message, members) {
                    let text = "the upstream asks for input that this client cannot be asked for";
                    return response::error(Some(id), code::INTERNAL_ERROR, text, None).into();
                }
                legacy_result(&mut edits, message, members);
            }
        },
    }
    if let (Some(uris), Outcome::Result { span, .. }) = (uris, outcome) {
        show_uris(&mut edits, message.text(), *span, (uris, asked_uri));
    }
    edits.into_pieces(message.body())
}

fn find(members: &[Member<ResultKey>], key: ResultKey) -> Option<&Member<ResultKey>> {
    members.iter().find(|member| member.name == key)
}

/// Multi-round-trip or task results mean nothing to legacy clients.
fn asks_for_more(message: &Message, members: &[Member<ResultKey>]) -> bool {
    find(members, ResultKey::ResultType)
        .is_some_and(|kind| kind.value.of(message.text()) != "\"complete\"")
}

/// The result is one that clients may keep (MCP 2026-07-28, caching).
#[derive(Clone, Copy)]
struct Cacheable;

/// MCP 2026-07-28: every result has a `resultType`, and should say who answered.
fn modern_result(
    edits: &mut Edits,
    message: &Message,
    (span, members): (Span, &[Member<ResultKey>]),
    cacheable: Option<Cacheable>,
) {
    let text = message.text();
    if !span.of(text).starts_with('{') {
        return;
    }
    let mut added = Vec::new();
    if find(members, ResultKey::ResultType).is_none() {
        added.push("\"resultType\":\"complete\"".to_owned());
    }
    let is_legacy = find(members, ResultKey::ResultType).is_none();
    if cacheable.is_some() && is_legacy {
        // Nobody said how long it stays true.
        let missing = |key| find(members, key).is_none();
        added.extend(missing(ResultKey::TtlMs).then(|| "\"ttlMs\":0".to_owned()));
        added.extend(
            missing(ResultKey::CacheScope).then(|| "\"cacheScope\":\"private\"".to_owned()),
        );
    }
    let server_info = format!("\"{}\":{SERVER_INFO}", meta_key::SERVER_INFO);
    match find(members, ResultKey::Meta).filter(|meta| meta.value.of(text).starts_with('{')) {
        None => added.push(format!("\"_meta\":{{{server_info}}}")),
        Some(meta) => {
            let inner = object::members(text, meta.value);
            for member in inner.iter().filter(|member| member.name == meta_key::SERVER_INFO) {
                edits.replace(member.key, format!("\"{UPSTREAM_SERVER_INFO}\""));
            }
            edits.prepend(text, meta.value, &server_info);
        }
    }
    if !added.is_empty() {
        edits.prepend(text, span, &added.join(","));
    }
}

/// What only the modern era has goes, structured content that is no object too (MCP
/// 2025-11-25, CallToolResult). A legacy upstream's own members of these names stay.
fn legacy_result(edits: &mut Edits, message: &Message, members: &[Member<ResultKey>]) {
    let text = message.text();
    let is_modern = find(members, ResultKey::ResultType).is_some();
    edits.cut(object::cuts(members, |member| match member.name {
        ResultKey::ResultType => true,
        ResultKey::TtlMs | ResultKey::CacheScope => is_modern,
        ResultKey::StructuredContent => is_modern && !member.value.of(text).starts_with('{'),
        ResultKey::Meta | ResultKey::InputRequests | ResultKey::Error | ResultKey::Other => false,
    }));
    if let Some(meta) = find(members, ResultKey::Meta).filter(|_| is_modern) {
        let inner = object::members(text, meta.value);
        edits.cut(object::cuts(&inner, |member| member.name == meta_key::SERVER_INFO));
    }
}

/// An upstream's notification as the client shall see it: its progress token (raw JSON), its era,
/// and for a log message the name of its upstream if several may have written it.
pub fn notification_to_client(
    message: &Message,
    to: Era,
    progress_token: Option<&[u8]>,
    writer: Option<&str>,
) -> Bytes {
    let Kind::Notification(notification) = &message.kind else {
        return message.body().clone();
    };
    let mut edits = Edits::default();
    if let (Some(name), Some(params)) = (writer, notification.params.span) {
        edits.0.extend(
            logger::signature(message.text(), params, name)
                .map(|(at, name)| (at, name.into_bytes())),
        );
    }
    if let (Some(token), Some(span)) = (progress_token, notification.params.progress_token) {
        edits.replace(span, token);
    }
    if let (Era::Legacy, Some(span)) = (to, notification.params.meta.span) {
        let members = object::members(message.text(), span);
        let is_reserved = |key: &str| is_claim(key) || key == meta_key::SERVER_INFO;
        edits.cut(object::cuts(&members, |member| is_reserved(&member.name)));
    }
    edits.apply(message.body())
}

#[cfg(test)]
mod tests;
