//! How an upstream is reached.

use std::collections::BTreeMap;

use url::Url;

use crate::{
    invalid::{Invalid, Under as _},
    wire,
};

/// How to reach an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// MCP over Streamable HTTP, or over HTTP+SSE where the server has only that.
    Http { url: Url },
    /// MCP over HTTP+SSE; the URL is that of the event stream.
    Sse { url: Url },
    /// MCP over a WebSocket.
    WebSocket { url: Url },
    /// A child process.
    Stdio(Stdio),
}

/// A command that speaks MCP on stdin and stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stdio {
    pub command: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Empty: the proxy's data directory.
    pub working_directory: String,
    pub mode: StdioMode,
}

/// Who shares a child process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StdioMode {
    /// All clients.
    #[default]
    Shared,
    /// A client session has a child of its own; in the modern era a principal has.
    PerSession,
}

impl StdioMode {
    pub const ALL: [Self; 2] = [Self::Shared, Self::PerSession];

    /// The word for files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerSession => "per-session",
        }
    }

    pub fn from_wire(mode: i32) -> Self {
        match wire::StdioMode::try_from(mode).unwrap_or_default() {
            wire::StdioMode::Unspecified | wire::StdioMode::Shared => Self::Shared,
            wire::StdioMode::PerSession => Self::PerSession,
        }
    }
}

impl From<StdioMode> for wire::StdioMode {
    fn from(mode: StdioMode) -> Self {
        match mode {
            StdioMode::Shared => Self::Shared,
            StdioMode::PerSession => Self::PerSession,
        }
    }
}

/// An absolute `http` or `https` URL with a host and without user information.
pub fn parse_url(field: &str, text: &str) -> Result<Url, Invalid> {
    parse_url_of(field, text, ["http", "https"])
}

fn parse_url_of(field: &str, text: &str, schemes: [&str; 2]) -> Result<Url, Invalid> {
    let url =
        Url::parse(text).map_err(|error| Invalid::new(field, format!("is not a URL: {error}")))?;
    if !schemes.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
        let [plain, secure] = schemes;
        let problem = format!("must be an {plain} or {secure} URL with a host");
        return Err(Invalid::new(field, problem));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new(field, "must not contain a user or password: use `credential`"));
    }
    Ok(url)
}

impl TryFrom<wire::HttpTransport> for Transport {
    type Error = Invalid;

    fn try_from(transport: wire::HttpTransport) -> Result<Self, Invalid> {
        let wire::HttpTransport { url } = transport;
        Ok(Self::Http { url: parse_url("url", &url)? })
    }
}

impl TryFrom<wire::SseTransport> for Transport {
    type Error = Invalid;

    fn try_from(transport: wire::SseTransport) -> Result<Self, Invalid> {
        let wire::SseTransport { url } = transport;
        Ok(Self::Sse { url: parse_url("url", &url)? })
    }
}

impl TryFrom<wire::WebSocketTransport> for Transport {
    type Error = Invalid;

    fn try_from(transport: wire::WebSocketTransport) -> Result<Self, Invalid> {
        let wire::WebSocketTransport { url } = transport;
        Ok(Self::WebSocket { url: parse_url_of("url", &url, ["ws", "wss"])? })
    }
}

impl TryFrom<wire::StdioTransport> for Transport {
    type Error = Invalid;

    fn try_from(transport: wire::StdioTransport) -> Result<Self, Invalid> {
        let wire::StdioTransport { command, args, env, working_directory, mode } = transport;
        let mode = StdioMode::from_wire(mode);
        if command.is_empty() {
            return Err(Invalid::missing("command"));
        }
        let texts = std::iter::once(&command).chain(&args).chain([&working_directory]);
        if texts.chain(env.values()).any(|text| text.contains('\0')) {
            return Err(Invalid::new("", "contains a NUL character"));
        }
        if let Some(name) = env.keys().find(|name| !is_variable(name)) {
            return Err(Invalid::new(format!("env[{name}]"), "is not a variable name"));
        }
        Ok(Self::Stdio(Stdio { command, args, env, working_directory, mode }))
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

impl From<Stdio> for wire::StdioTransport {
    fn from(stdio: Stdio) -> Self {
        let Stdio { command, args, env, working_directory, mode } = stdio;
        let mode = wire::StdioMode::from(mode).into();
        Self { command, args, env, working_directory, mode }
    }
}

impl Transport {
    /// `http`, `sse`, `websocket` or `stdio`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Sse { .. } => "sse",
            Self::WebSocket { .. } => "websocket",
            Self::Stdio(_) => "stdio",
        }
    }

    /// The URL that is connected to; a command has none.
    pub fn url(&self) -> Option<&Url> {
        match self {
            Self::Http { url } | Self::Sse { url } | Self::WebSocket { url } => Some(url),
            Self::Stdio(_) => None,
        }
    }

    pub(super) fn from_upstream(transport: wire::upstream::Transport) -> Result<Self, Invalid> {
        match transport {
            wire::upstream::Transport::Http(http) => Self::try_from(http).under("http"),
            wire::upstream::Transport::Sse(sse) => Self::try_from(sse).under("sse"),
            wire::upstream::Transport::Websocket(websocket) => {
                Self::try_from(websocket).under("websocket")
            }
            wire::upstream::Transport::Stdio(stdio) => Self::try_from(stdio).under("stdio"),
        }
    }
}

impl From<Transport> for wire::upstream::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Http { url } => Self::Http(wire::HttpTransport { url: url.into() }),
            Transport::Sse { url } => Self::Sse(wire::SseTransport { url: url.into() }),
            Transport::WebSocket { url } => {
                Self::Websocket(wire::WebSocketTransport { url: url.into() })
            }
            Transport::Stdio(stdio) => Self::Stdio(stdio.into()),
        }
    }
}
