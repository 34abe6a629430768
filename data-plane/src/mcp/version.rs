//! Protocol versions, and from what a message says which era it speaks.

use std::borrow::Cow;

use proto::Era;

use super::{
    Capabilities, Level, code, declared,
    message::{Kind, Message, Request, meta_key},
    method::Method,
    mirror::{self, MirrorParam},
    object::unquote,
    response::quote,
    task,
};

/// The versions we serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

/// The versions a modern client may name, as `server/discover` lists them.
pub const MODERN: [&str; 1] = ["2026-07-28"];

impl Version {
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// The newest version that has an `initialize`.
    pub const NEWEST_HANDSHAKE: Self = Self::V2025_11_25;
    /// The newest version without.
    pub const NEWEST: Self = Self::V2026_07_28;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Legacy
            }
            Self::V2026_07_28 => Era::Modern,
        }
    }

    /// The answer to an `initialize` that asks for `requested` (MCP 2025-11-25, lifecycle).
    pub fn negotiate(requested: &str) -> Self {
        let same = Self::find(requested).filter(|version| version.era() == Era::Legacy);
        same.unwrap_or(Self::NEWEST_HANDSHAKE)
    }
}

/// How a message has to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundEra {
    /// By its session, or as `initialize`. `header` is what `MCP-Protocol-Version` names.
    Legacy {
        header: Option<Version>,
    },
    Modern {
        version: Version,
        capabilities: Capabilities,
    },
}

impl InboundEra {
    pub fn era(&self) -> Era {
        match self {
            Self::Legacy { .. } => Era::Legacy,
            Self::Modern { .. } => Era::Modern,
        }
    }
}

/// The headers that mirror the body, as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorHeaders<'a> {
    /// `MCP-Protocol-Version`.
    pub protocol_version: Option<&'a [u8]>,
    /// `Mcp-Method`.
    pub method: Option<&'a [u8]>,
    /// `Mcp-Name`.
    pub name: Option<&'a [u8]>,
}

/// An answer that ends a message before it is routed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// JSON-RPC code.
    pub code: i64,
    pub message: String,
    /// JSON text.
    pub data: Option<String>,
}

impl Refusal {
    fn bad(code: i64, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into(), data: None }
    }

    fn mismatch(message: impl Into<String>) -> Self {
        Self::bad(code::HEADER_MISMATCH, message)
    }
}

/// Which era a message speaks, and for the modern one whether its envelope, method
/// and standard mirror headers are right. The first rung that fails answers.
pub fn era_of(message: &Message, headers: &MirrorHeaders<'_>) -> Result<InboundEra, Refusal> {
    let named = headers.protocol_version.map(|value| String::from_utf8_lossy(value.trim_ascii()));
    let header = named.as_deref().and_then(Version::find);
    let is_header_legacy = named.is_none() || header.is_some_and(|it| it.era() == Era::Legacy);
    let legacy = InboundEra::Legacy { header };
    let claim = message.params().and_then(|params| params.meta.protocol_version.as_ref());
    let claimed = match (&message.kind, claim) {
        (Kind::Response(_), _) if is_header_legacy => return Ok(legacy),
        (Kind::Response(_), _) => {
            return Err(Refusal::bad(code::INVALID_REQUEST, "clients have no requests to answer"));
        }
        (Kind::Request(Request { method: Method::Initialize, .. }), None) => return Ok(legacy),
        (Kind::Request(_) | Kind::Notification(_), None) if is_header_legacy => return Ok(legacy),
        (Kind::Notification(_), None) => {
            let version = header.unwrap_or(Version::NEWEST);
            return Ok(InboundEra::Modern { version, capabilities: Capabilities::NONE });
        }
        (Kind::Request(_), None) => return Err(missing(meta_key::PROTOCOL_VERSION)),
        (Kind::Request(_) | Kind::Notification(_), Some(claim)) => claim.as_str(),
    };
    if claimed.and_then(Version::find).is_some_and(|version| version.era() == Era::Legacy) {
        return Ok(legacy);
    }
    let version = agreed_version(claimed, named)?;
    let capabilities = capabilities_of(message)?;
    if let Kind::Request(request) = &message.kind {
        check_standard_headers(message, request, headers)?;
        check_log_level(request)?;
    }
    Ok(InboundEra::Modern { version, capabilities })
}

/// The same for a message that comes without headers: over a pipe, or as plain JSON-RPC.
pub fn era_of_body(message: &Message) -> Result<InboundEra, Refusal> {
    let legacy = InboundEra::Legacy { header: None };
    let claim = message.params().and_then(|params| params.meta.protocol_version.as_ref());
    let Some(claim) = claim else { return Ok(legacy) };
    let claimed = claim.as_str();
    if claimed.and_then(Version::find).is_some_and(|version| version.era() == Era::Legacy) {
        return Ok(legacy);
    }
    let version = modern_version(claimed)?;
    let capabilities = capabilities_of(message)?;
    if let Kind::Request(request) = &message.kind {
        check_method(request)?;
        check_log_level(request)?;
    }
    Ok(InboundEra::Modern { version, capabilities })
}

/// Whether `MCP-Protocol-Version` may stand on a request of a session at `version`:
/// a session knows its version, so no header is fine, and another that has sessions is a
/// slip of the client (MCP 2025-11-25, transports, wants 400 only for what is not supported).
pub fn check_session_version(header: Option<&[u8]>, version: Version) -> Result<(), Refusal> {
    let has_sessions = |header: &[u8]| {
        let named = std::str::from_utf8(header.trim_ascii()).ok().and_then(Version::find);
        named.is_some_and(|named| named.era() == Era::Legacy)
    };
    match header {
        Some(header) if !has_sessions(header) => {
            let named = String::from_utf8_lossy(header);
            let message = format!(
                "`MCP-Protocol-Version: {named}`, but this session is at {}",
                version.as_str()
            );
            Err(Refusal::bad(code::INVALID_REQUEST, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether each recognised `Mcp-Param-*` header says what the arguments say.
/// `header` looks a header up by its lower-case name.
pub fn check_param_headers<'a>(
    params: &[MirrorParam],
    message: &Message,
    header: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<(), Refusal> {
    let arguments = message.params().and_then(|params| params.arguments).unwrap_or_default();
    for param in params {
        let name = &param.header;
        let written = header(name)
            .map(|value| {
                mirror::decode(value)
                    .ok_or_else(|| Refusal::mismatch(format!("`{name}` is not correctly encoded")))
            })
            .transpose()?;
        match (written, param.value_in(message.text(), arguments)) {
            (None, None) => (),
            (Some(written), Some(value)) if mirror::is_same(&written, &value) => (),
            (Some(_), Some(_)) => {
                return Err(Refusal::mismatch(format!("`{name}` differs from the arguments")));
            }
            (None, Some(_)) => return Err(Refusal::mismatch(format!("`{name}` is missing"))),
            (Some(_), None) => {
                return Err(Refusal::mismatch(format!("`{name}` has no value in the arguments")));
            }
        }
    }
    Ok(())
}

fn missing(key: &str) -> Refusal {
    Refusal::bad(code::INVALID_PARAMS, format!("`params._meta[\"{key}\"]` is required"))
}

/// Header and body must name the same version, and one that we have.
fn agreed_version(claimed: Option<&str>, named: Option<Cow<'_, str>>) -> Result<Version, Refusal> {
    let Some(named) = named else {
        return Err(Refusal::mismatch("`MCP-Protocol-Version` is missing"));
    };
    if claimed.is_some_and(|claimed| named != claimed) {
        return Err(Refusal::mismatch("`MCP-Protocol-Version` differs from the body"));
    }
    modern_version(claimed)
}

/// The version that a body claims, if we have it.
fn modern_version(claimed: Option<&str>) -> Result<Version, Refusal> {
    let Some(claimed) = claimed else {
        let message = format!("`params._meta[\"{}\"]` is not a string", meta_key::PROTOCOL_VERSION);
        return Err(Refusal::bad(code::INVALID_PARAMS, message));
    };
    Version::find(claimed).filter(|version| version.era() == Era::Modern).ok_or_else(|| Refusal {
        status: 400,
        code: code::UNSUPPORTED_VERSION,
        message: "unsupported protocol version".to_owned(),
        data: Some(format!(
            r#"{{"supported":["{}"],"requested":{}}}"#,
            MODERN.join("\",\""),
            quote(claimed)
        )),
    })
}

fn capabilities_of(message: &Message) -> Result<Capabilities, Refusal> {
    let span = message.params().and_then(|params| params.meta.client_capabilities);
    match span {
        Some(span) if span.of(message.text()).starts_with('{') => {
            declared::read(message.text(), span)
                .map_err(|error| Refusal::bad(code::INVALID_PARAMS, error.to_string()))
        }
        Some(_) => {
            let key = meta_key::CLIENT_CAPABILITIES;
            let message = format!("`params._meta[\"{key}\"]` is not an object");
            Err(Refusal::bad(code::INVALID_PARAMS, message))
        }
        None if matches!(message.kind, Kind::Request(_)) => {
            Err(missing(meta_key::CLIENT_CAPABILITIES))
        }
        None => Ok(Capabilities::NONE),
    }
}

/// The method exists, and `Mcp-Method` and `Mcp-Name` mirror the body.
fn check_standard_headers(
    message: &Message,
    request: &Request,
    headers: &MirrorHeaders<'_>,
) -> Result<(), Refusal> {
    check_method(request)?;
    let method = &request.method;
    check_mirror("Mcp-Method", headers.method, method.as_str())?;
    if matches!(method, Method::TasksGet | Method::TasksUpdate | Method::TasksCancel) {
        let id = task::asked_for(message, request).and_then(|id| unquote(id.of(message.text())));
        return id.map_or(Ok(()), |id| check_mirror("Mcp-Name", headers.name, &id));
    }
    let named = match method {
        Method::ToolsCall | Method::PromptsGet => &request.params.name,
        Method::ResourcesRead => &request.params.uri,
        _ => &None,
    };
    match named.as_ref().and_then(|name| name.as_str()) {
        Some(name) => check_mirror("Mcp-Name", headers.name, name),
        None => Ok(()),
    }
}

fn check_method(request: &Request) -> Result<(), Refusal> {
    let method = &request.method;
    if method.is_served_in(Era::Modern) {
        return Ok(());
    }
    let message = format!("method not found: {}", method.as_str());
    Err(Refusal { status: 404, ..Refusal::bad(code::METHOD_NOT_FOUND, message) })
}

/// MCP 2026-07-28, logging: the level, if any, is one of RFC 5424.
fn check_log_level(request: &Request) -> Result<(), Refusal> {
    let level = request.params.meta.log_level.as_ref();
    if level.is_none_or(|level| level.as_str().is_some_and(|level| Level::find(level).is_some())) {
        return Ok(());
    }
    let message = format!("`params._meta[\"{}\"]` is not a log level", meta_key::LOG_LEVEL);
    Err(Refusal::bad(code::INVALID_PARAMS, message))
}

fn check_mirror(header: &str, written: Option<&[u8]>, value: &str) -> Result<(), Refusal> {
    let written = written.ok_or_else(|| Refusal::mismatch(format!("`{header}` is missing")))?;
    match mirror::decode(written) {
        Some(written) if written == value => Ok(()),
        Some(_) => Err(Refusal::mismatch(format!("`{header}` differs from the body"))),
        None => Err(Refusal::mismatch(format!("`{header}` is not correctly encoded"))),
    }
}

#[cfg(test)]
mod tests;
