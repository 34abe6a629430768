//! Which paths the proxy answers itself.

use http::{Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;

use crate::{
    route::Endpoint,
    solo::{Entrance, Way},
};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Where MCP clients come in.
    Mcp(Transport, Endpoint),
    Health,
    Ready,
    Metrics,
    /// Probed by clients before they have a token, so it never asks for one.
    WellKnown,
    Other,
}

/// How a client carries its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Streamable HTTP, at `/mcp`.
    Http,
    /// Plain JSON-RPC, at `/rpc`.
    Rpc,
    /// HTTP+SSE of 2024-11-05: the stream at `/sse`.
    Events,
    /// HTTP+SSE of 2024-11-05: the client's messages, at `/message`.
    Message,
    /// At `/ws`.
    WebSocket,
    /// Streamable HTTP without sessions, where a proxy of one upstream offers it.
    Stateless,
}

impl Transport {
    /// By the last segment of a path.
    fn find(segment: &str) -> Option<Self> {
        match segment {
            "mcp" => Some(Self::Http),
            "rpc" => Some(Self::Rpc),
            "sse" => Some(Self::Events),
            "message" => Some(Self::Message),
            "ws" => Some(Self::WebSocket),
            _ => None,
        }
    }
}

/// A prefix that a reverse proxy in front of us leaves on every path.
#[derive(Clone, Debug)]
pub(crate) struct RootPath {
    prefix: String,
    /// The only ways in, where they are named one by one.
    entrances: Option<Vec<Entrance>>,
}

impl RootPath {
    pub(crate) fn new(text: &str) -> Self {
        let text = text.trim().trim_matches('/');
        let prefix = if text.is_empty() { String::new() } else { format!("/{text}") };
        Self { prefix, entrances: None }
    }

    /// No prefix, and no other ways in than these.
    pub(crate) fn with(entrances: &[Entrance]) -> Self {
        Self { prefix: String::new(), entrances: Some(entrances.to_vec()) }
    }

    fn rest<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.prefix.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        }
    }

    pub(crate) fn parse(&self, path: &str) -> Path {
        let path = self.rest(path);
        match path {
            "/health" => return Path::Health,
            "/ready" => return Path::Ready,
            "/metrics" => return Path::Metrics,
            _ if path.starts_with("/.well-known/") => return Path::WellKnown,
            _ => {}
        }
        let found = match &self.entrances {
            None => mcp(path),
            Some(entrances) => only(entrances, path),
        };
        found.unwrap_or(Path::Other)
    }

    /// Where the messages of a client are posted that opened its stream at `path`.
    pub(crate) fn messages(&self, path: &str) -> String {
        let entrances = self.entrances.iter().flatten();
        if let Some(named) = entrances.into_iter().find(|it| it.way == Way::Messages) {
            return named.path.clone();
        }
        let path = self.public(path);
        format!("{}message", path.trim_end_matches('/').trim_end_matches("sse"))
    }

    /// The path as clients write it, whether or not a proxy took the prefix off.
    fn public(&self, path: &str) -> String {
        format!("{}{}", self.prefix, self.rest(path))
    }

    /// Takes the prefix off a request that is passed on.
    pub(crate) fn strip(&self, uri: &mut Uri) {
        let Some(full) = uri.path_and_query().filter(|_| !self.prefix.is_empty()) else { return };
        let path = self.rest(full.path());
        let target = match full.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = target.parse::<PathAndQuery>().ok();
        if let Ok(stripped) = Uri::from_parts(parts) {
            *uri = stripped;
        }
    }
}

/// What is offered at a path where the ways in are named.
fn only(entrances: &[Entrance], path: &str) -> Option<Path> {
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let found = entrances.iter().find(|it| plain(&it.path) == plain(path))?;
    let transport = match found.way {
        Way::StreamableHttp => Transport::Http,
        Way::Stateless => Transport::Stateless,
        Way::Events => Transport::Events,
        Way::Messages => Transport::Message,
    };
    Some(Path::Mcp(transport, Endpoint::Everything))
}

/// `/TRANSPORT` or `/servers/NAME/TRANSPORT`, with or without a slash at the end.
fn mcp(path: &str) -> Option<Path> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (scope, segment) = path.rsplit_once('/')?;
    let transport = Transport::find(segment)?;
    if scope.is_empty() {
        return Some(Path::Mcp(transport, Endpoint::Everything));
    }
    let name = scope.strip_prefix("/servers/")?;
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let name = percent_decode_str(name).decode_utf8_lossy();
    Some(Path::Mcp(transport, Endpoint::Server(name.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> Path {
        Path::Mcp(Transport::Http, Endpoint::Server(name.into()))
    }

    fn everything(transport: Transport) -> Path {
        Path::Mcp(transport, Endpoint::Everything)
    }

    #[test]
    fn paths_are_told_apart_with_and_without_a_last_slash() {
        let root = RootPath::new("");
        for (path, expected) in [
            ("/mcp", everything(Transport::Http)),
            ("/mcp/", everything(Transport::Http)),
            ("/rpc", everything(Transport::Rpc)),
            ("/rpc//", Path::Other),
            ("/sse", everything(Transport::Events)),
            ("/message", everything(Transport::Message)),
            ("/ws/", everything(Transport::WebSocket)),
            ("/servers/dev/mcp", server("dev")),
            ("/servers/dev/rpc", Path::Mcp(Transport::Rpc, Endpoint::Server("dev".into()))),
            ("/servers/d%65v/mcp/", server("dev")),
            ("/servers/mcp", Path::Other),
            ("/servers//mcp", Path::Other),
            ("/servers/a/b/mcp", Path::Other),
            ("/mcpx", Path::Other),
            ("/health", Path::Health),
            ("/.well-known/oauth-protected-resource/mcp", Path::WellKnown),
            ("/", Path::Other),
        ] {
            assert_eq!(root.parse(path), expected, "{path}");
        }
    }

    #[test]
    fn named_ways_in_are_the_only_ones() {
        let entrance = |path: &str, way| Entrance { path: path.to_owned(), way };
        let root = RootPath::with(&[
            entrance("/events", Way::Events),
            entrance("/say", Way::Messages),
            entrance("/", Way::Stateless),
        ]);
        assert_eq!(root.parse("/events/"), everything(Transport::Events));
        assert_eq!(root.parse("/"), everything(Transport::Stateless));
        for absent in ["/sse", "/mcp", "/servers/x/mcp", "/ws", "/rpc"] {
            assert_eq!(root.parse(absent), Path::Other, "{absent}");
        }
        assert_eq!(root.parse("/health"), Path::Health);
        assert_eq!(root.messages("/events"), "/say");
        assert_eq!(RootPath::new("/g").messages("/servers/a/sse"), "/g/servers/a/message");
    }

    #[test]
    fn the_root_path_is_taken_off_whole_segments() {
        let root = RootPath::new("/gateway/");
        assert_eq!(root.parse("/gateway/mcp"), everything(Transport::Http));
        assert_eq!(root.parse("/mcp"), everything(Transport::Http));
        assert_eq!(root.parse("/gatewaymcp"), Path::Other);
        assert_eq!(root.public("/gateway/sse"), "/gateway/sse");
        assert_eq!(root.public("/sse"), "/gateway/sse");
        for (uri, stripped) in
            [("/gateway/tools?x=1", "/tools?x=1"), ("/gateway", "/"), ("/tools", "/tools")]
        {
            let mut uri: Uri = uri.parse().unwrap();
            root.strip(&mut uri);
            assert_eq!(uri, stripped);
        }
    }
}
