//! Something we forward to.

mod transport;

pub use transport::{Stdio, StdioMode, Transport, parse_url};

use crate::{
    CredentialChange, CredentialSummary, Era, UpstreamName,
    invalid::{Invalid, Under as _},
    wire,
};

/// Longest description or title, in bytes.
pub const TEXT_MAX: usize = 8 * 1024;

/// Whose catalog it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatalogScope {
    #[default]
    Shared,
    Principal,
}

/// What a writer may say about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamDraft {
    pub name: UpstreamName,
    pub title: String,
    pub description: String,
    pub transport: Transport,
    pub credential: CredentialChange,
    pub catalog_scope: CatalogScope,
    pub disabled: bool,
    pub tags: Vec<String>,
}

/// A registered upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub id: String,
    pub name: UpstreamName,
    pub title: String,
    pub description: String,
    pub transport: Transport,
    pub credential: Option<CredentialSummary>,
    pub catalog_scope: CatalogScope,
    pub disabled: bool,
    pub tags: Vec<String>,
    pub status: UpstreamStatus,
    pub resource_version: u64,
    pub create_time_ms: i64,
    pub update_time_ms: i64,
}

/// How the last discovery went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamStatus {
    pub phase: Phase,
    pub reason: Option<FailureReason>,
    pub message: String,
    pub era: Option<Era>,
    pub protocol_version: String,
    pub tool_count: u32,
    pub prompt_count: u32,
    pub resource_count: u32,
    pub resource_template_count: u32,
    pub discovered_time_ms: i64,
    pub checked_time_ms: i64,
    pub discovery_generation: u64,
    pub notices: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Pending,
    Ready,
    Failed,
    Disabled,
}

/// Where the way to an upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    Dns,
    Egress,
    Connect,
    Tls,
    HttpStatus,
    Auth,
    Spawn,
    Initialize,
    List,
    Timeout,
    NoProxy,
    /// It speaks no protocol version of ours. What it had is no longer listed.
    Incompatible,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

impl FailureReason {
    pub const ALL: [Self; 12] = [
        Self::Dns,
        Self::Egress,
        Self::Connect,
        Self::Tls,
        Self::HttpStatus,
        Self::Auth,
        Self::Spawn,
        Self::Initialize,
        Self::List,
        Self::Timeout,
        Self::NoProxy,
        Self::Incompatible,
    ];

    /// The word for tables and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Egress => "egress",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::HttpStatus => "http-status",
            Self::Auth => "auth",
            Self::Spawn => "spawn",
            Self::Initialize => "initialize",
            Self::List => "list",
            Self::Timeout => "timeout",
            Self::NoProxy => "no-proxy",
            Self::Incompatible => "incompatible",
        }
    }

    pub fn from_wire(reason: i32) -> Option<Self> {
        use wire::FailureReason as W;
        match W::try_from(reason).unwrap_or_default() {
            W::Unspecified => None,
            W::Dns => Some(Self::Dns),
            W::Egress => Some(Self::Egress),
            W::Connect => Some(Self::Connect),
            W::Tls => Some(Self::Tls),
            W::HttpStatus => Some(Self::HttpStatus),
            W::Auth => Some(Self::Auth),
            W::Spawn => Some(Self::Spawn),
            W::Initialize => Some(Self::Initialize),
            W::List => Some(Self::List),
            W::Timeout => Some(Self::Timeout),
            W::NoProxy => Some(Self::NoProxy),
            W::Incompatible => Some(Self::Incompatible),
        }
    }
}

impl From<FailureReason> for wire::FailureReason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Dns => Self::Dns,
            FailureReason::Egress => Self::Egress,
            FailureReason::Connect => Self::Connect,
            FailureReason::Tls => Self::Tls,
            FailureReason::HttpStatus => Self::HttpStatus,
            FailureReason::Auth => Self::Auth,
            FailureReason::Spawn => Self::Spawn,
            FailureReason::Initialize => Self::Initialize,
            FailureReason::List => Self::List,
            FailureReason::Timeout => Self::Timeout,
            FailureReason::NoProxy => Self::NoProxy,
            FailureReason::Incompatible => Self::Incompatible,
        }
    }
}

impl From<Phase> for wire::UpstreamPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Ready => Self::Ready,
            Phase::Failed => Self::Failed,
            Phase::Disabled => Self::Disabled,
        }
    }
}

impl CatalogScope {
    pub fn from_wire(scope: i32) -> Self {
        match wire::CatalogScope::try_from(scope).unwrap_or_default() {
            wire::CatalogScope::Unspecified | wire::CatalogScope::Shared => Self::Shared,
            wire::CatalogScope::Principal => Self::Principal,
        }
    }
}

impl From<CatalogScope> for wire::CatalogScope {
    fn from(scope: CatalogScope) -> Self {
        match scope {
            CatalogScope::Shared => Self::Shared,
            CatalogScope::Principal => Self::Principal,
        }
    }
}

/// Text for people: bounded, without control characters other than line breaks.
pub fn check_text(field: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > TEXT_MAX {
        return Err(Invalid::new(field, format!("is longer than {TEXT_MAX} bytes")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Invalid::new(field, "contains control characters"));
    }
    Ok(())
}

impl TryFrom<wire::Upstream> for UpstreamDraft {
    type Error = Invalid;

    fn try_from(upstream: wire::Upstream) -> Result<Self, Invalid> {
        let wire::Upstream {
            id: _,
            name,
            title,
            description,
            transport,
            credential,
            credential_summary: _,
            catalog_scope,
            disabled,
            tags,
            status: _,
            resource_version: _,
            create_time_ms: _,
            update_time_ms: _,
        } = upstream;
        check_text("title", &title)?;
        check_text("description", &description)?;
        let transport = transport.ok_or_else(|| {
            let problem = "is required: give `http`, `sse`, `websocket` or `stdio`";
            Invalid::new("transport", problem)
        })?;
        Ok(Self {
            name: name.parse()?,
            title,
            description,
            transport: Transport::from_upstream(transport)?,
            credential: CredentialChange::try_from(credential.unwrap_or_default())
                .under("credential")?,
            catalog_scope: CatalogScope::from_wire(catalog_scope),
            disabled,
            tags: tags_of(tags)?,
        })
    }
}

/// Tags are trimmed, unique and sorted.
pub fn tags_of(tags: Vec<String>) -> Result<Vec<String>, Invalid> {
    let mut out = Vec::with_capacity(tags.len());
    for tag in tags {
        let tag = tag.trim();
        check_text("tags", tag)?;
        if tag.is_empty() || tag.len() > 63 {
            return Err(Invalid::new("tags", "must be 1-63 characters each"));
        }
        out.push(tag.to_owned());
    }
    out.sort();
    out.dedup();
    Ok(out)
}

impl From<Upstream> for wire::Upstream {
    fn from(upstream: Upstream) -> Self {
        let Upstream {
            id,
            name,
            title,
            description,
            transport,
            credential,
            catalog_scope,
            disabled,
            tags,
            status,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = upstream;
        Self {
            id,
            name: name.to_string(),
            title,
            description,
            transport: Some(transport.into()),
            credential: None,
            credential_summary: credential.map(Into::into),
            catalog_scope: wire::CatalogScope::from(catalog_scope).into(),
            disabled,
            tags,
            status: Some(status.into()),
            resource_version,
            create_time_ms,
            update_time_ms,
        }
    }
}

impl From<UpstreamStatus> for wire::UpstreamStatus {
    fn from(status: UpstreamStatus) -> Self {
        let UpstreamStatus {
            phase,
            reason,
            message,
            era,
            protocol_version,
            tool_count,
            prompt_count,
            resource_count,
            resource_template_count,
            discovered_time_ms,
            checked_time_ms,
            discovery_generation,
            notices,
        } = status;
        Self {
            phase: wire::UpstreamPhase::from(phase).into(),
            reason: reason.map_or(wire::FailureReason::Unspecified, Into::into).into(),
            message,
            era: Era::into_wire(era).into(),
            protocol_version,
            tool_count,
            prompt_count,
            resource_count,
            resource_template_count,
            discovered_time_ms,
            checked_time_ms,
            discovery_generation,
            notices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(transport: Option<wire::upstream::Transport>) -> Result<UpstreamDraft, Invalid> {
        UpstreamDraft::try_from(wire::Upstream {
            name: "everything".to_owned(),
            transport,
            ..wire::Upstream::default()
        })
    }

    fn http(url: &str) -> wire::upstream::Transport {
        wire::upstream::Transport::Http(wire::HttpTransport { url: url.to_owned() })
    }

    #[test]
    fn the_wrong_field_is_named_by_its_path() {
        assert_eq!(draft(None).unwrap_err().field, "transport");
        assert_eq!(draft(Some(http("ftp://x"))).unwrap_err().field, "http.url");
        assert_eq!(draft(Some(http("http://u:p@x/"))).unwrap_err().field, "http.url");
        assert!(draft(Some(http("http://127.0.0.1:3001/mcp"))).is_ok());
        let sse = wire::SseTransport { url: "ws://x".to_owned() };
        let error = draft(Some(wire::upstream::Transport::Sse(sse))).unwrap_err();
        assert_eq!(error.field, "sse.url");
        let websocket = |url: &str| {
            let websocket = wire::WebSocketTransport { url: url.to_owned() };
            draft(Some(wire::upstream::Transport::Websocket(websocket)))
        };
        assert_eq!(websocket("http://x/ws").unwrap_err().field, "websocket.url");
        assert!(websocket("wss://x/ws").is_ok());
    }

    #[test]
    fn a_command_is_required_on_stdio() {
        let stdio = wire::StdioTransport::default();
        let error = draft(Some(wire::upstream::Transport::Stdio(stdio))).unwrap_err();
        assert_eq!(error.to_string(), "`stdio.command` is required");
    }

    #[test]
    fn failure_reasons_survive_the_wire() {
        for reason in FailureReason::ALL {
            let wire: wire::FailureReason = reason.into();
            assert_eq!(FailureReason::from_wire(wire.into()), Some(reason));
        }
    }
}
