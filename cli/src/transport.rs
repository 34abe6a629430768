//! How an upstream is reached, from what people write.

use proto::wire::{self, upstream::Transport};

use crate::args::objects::{CatalogScope, StdioMode, UrlTransport};

impl UrlTransport {
    /// The word in files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }

    /// What the scheme of a URL says.
    fn of(url: &str) -> Self {
        let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if matches!(scheme.as_str(), "ws" | "wss") { Self::WebSocket } else { Self::Http }
    }
}

/// The transport to a URL; without one the scheme tells.
pub(crate) fn to_url(url: String, transport: Option<UrlTransport>) -> Transport {
    match transport.unwrap_or_else(|| UrlTransport::of(&url)) {
        UrlTransport::Http => Transport::Http(wire::HttpTransport { url }),
        UrlTransport::Sse => Transport::Sse(wire::SseTransport { url }),
        UrlTransport::WebSocket => Transport::Websocket(wire::WebSocketTransport { url }),
    }
}

/// The name of a transport's field.
pub(crate) fn field_of(transport: &Transport) -> &'static str {
    match transport {
        Transport::Http(_) => "http",
        Transport::Sse(_) => "sse",
        Transport::Websocket(_) => "websocket",
        Transport::Stdio(_) => "stdio",
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

impl From<StdioMode> for wire::StdioMode {
    fn from(mode: StdioMode) -> Self {
        match mode {
            StdioMode::Shared => Self::Shared,
            StdioMode::PerSession => Self::PerSession,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_transport_the_scheme_tells() {
        let field = |url: &str, transport| field_of(&to_url(url.to_owned(), transport));
        assert_eq!(field("http://h/sse", None), "http");
        assert_eq!(field("WSS://h/", None), "websocket");
        assert_eq!(field("http://h/sse", Some(UrlTransport::Sse)), "sse");
    }
}
