//! A proxy to test and a client that says exactly what it wants.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use std::sync::Arc;

use proto::{
    Era, Position, Role, Secret,
    resource::{
        Key, KeyResource, Resource, TokenResource, ToolResource, ToolTarget, UpstreamResource,
        VirtualServerResource,
    },
    token,
    upstream::{CatalogScope, Transport},
    virtual_server::Naming,
};
use serde_json::Value;

use super::upstream::Upstream;
use crate::{
    Config, DataPlane,
    config::{Control, Limits, Management, Source, Stdio, Timeouts},
    snapshot::table::Table,
};

/// Values of a proxy on a free port that nobody configures.
pub(super) fn config() -> Config {
    Config {
        data_dir: tempfile::tempdir().unwrap().keep(),
        listeners: vec![TcpListener::bind("127.0.0.1:0").unwrap()],
        ops_listeners: vec![],
        peer_listeners: vec![],
        advertise_address: String::new(),
        peer_address: String::new(),
        source: Source::ControlPlane(Control::Remote {
            address: "http://127.0.0.1:1".parse().unwrap(),
            join_token: None,
        }),
        management: Management::Off,
        stdio: Stdio::Refused,
        allowed_hosts: vec![],
        allowed_origins: vec![],
        trusted_proxies: vec![],
        root_path: String::new(),
        limits: Limits::default(),
        timeouts: Timeouts {
            head: Duration::from_millis(300),
            idle: Duration::from_millis(600),
            drain: Duration::from_secs(5),
            ..Timeouts::default()
        },
        threads: 2,
    }
}

/// A connection that a test writes to byte by byte.
pub(super) struct Connection(pub(super) TcpStream);

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Head and body of one answer with a length.
    pub(super) fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed after {head:?}");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Everything up to and with `end`.
    pub(super) fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(end.as_bytes()) {
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed");
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Everything until the proxy closes.
    pub(super) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).ok();
        String::from_utf8(rest).unwrap()
    }
}

/// One request on a connection of its own: head and body of the answer.
pub(super) fn ask(proxy: &DataPlane, request: impl AsRef<[u8]>) -> (String, String) {
    let mut connection = Connection::open(proxy.addresses()[0]);
    connection.send(request);
    connection.answer()
}

/// Tokens of the two principals that [`table`] knows.
pub(super) const ADMIN: &str = "lg_admin-token-of-the-tests";
pub(super) const CALLER: &str = "lg_caller-token-of-the-tests";

/// A configuration with one upstream `up`, its tools, and a virtual server `dev` with `echo`.
pub(super) fn table(upstream: SocketAddr) -> Arc<Table> {
    let resources = resources(upstream);
    Arc::new(Table::compile(resources.iter(), Position::default()).unwrap())
}

/// The same after all tokens were revoked.
pub(super) fn table_without_tokens(upstream: SocketAddr) -> Arc<Table> {
    let mut resources = resources(upstream);
    resources.retain(|resource| !matches!(resource, Resource::Token(_)));
    Arc::new(Table::compile(resources.iter(), Position::default()).unwrap())
}

/// Tool `name` of the upstream, shown as `up-name`.
pub(super) fn tool(name: &str) -> ToolResource {
    ToolResource {
        id: format!("tool-{name}"),
        name: format!("up-{name}"),
        target: ToolTarget::Upstream {
            upstream_id: "u1".to_owned(),
            original_name: name.to_owned(),
        },
        definition: format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#),
        needs_client_capabilities: vec![],
        aliases: vec![],
    }
}

/// What [`table`] is made of.
pub(super) fn resources(upstream: SocketAddr) -> Vec<Resource> {
    resources_with(upstream, Era::Modern, "")
}

/// The resources of [`table`] with an upstream of this era that declares `capabilities`.
pub(super) fn resources_with(upstream: SocketAddr, era: Era, capabilities: &str) -> Vec<Resource> {
    let tool = |name: &str| Resource::Tool(tool(name));
    let token = |id: &str, secret: &str, role: Role| {
        Resource::Token(TokenResource {
            id: id.to_owned(),
            digest: token::digest(secret),
            subject: id.to_owned(),
            role,
            expire_time_ms: None,
        })
    };
    vec![
        Resource::Upstream(UpstreamResource {
            id: "u1".to_owned(),
            name: "up".parse().unwrap(),
            transport: Transport::Http { url: format!("http://{upstream}/mcp").parse().unwrap() },
            credential_id: None,
            catalog_scope: CatalogScope::Shared,
            era: Some(era),
            protocol_version: match era {
                Era::Legacy => "2025-11-25".to_owned(),
                Era::Modern => "2026-07-28".to_owned(),
            },
            instructions: String::new(),
            disabled: false,
            capabilities: capabilities.to_owned(),
        }),
        tool("echo"),
        tool("wait"),
        tool("progress"),
        tool("flood"),
        Resource::VirtualServer(VirtualServerResource {
            id: "s1".to_owned(),
            name: "dev".parse().unwrap(),
            description: String::new(),
            upstream_ids: vec![],
            tool_ids: vec!["tool-echo".to_owned()],
            entries: vec![],
            naming: Naming::Bare,
        }),
        token("admin", ADMIN, Role::Admin),
        token("caller", CALLER, Role::Caller),
        Resource::Key(KeyResource {
            id: "k1".to_owned(),
            key: Key::Session(Secret::new([7; 32])),
            create_time_ms: 1,
        }),
    ]
}

/// A proxy, its upstream, and the runtime that both are driven from.
pub(super) struct World {
    pub(super) proxy: DataPlane,
    pub(super) upstream: Upstream,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl World {
    pub(super) fn start() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let upstream = runtime.block_on(Upstream::start());
        let proxy = DataPlane::start(config).unwrap();
        let inside = runtime.enter();
        proxy.current().store(table(upstream.address));
        drop(inside);
        Self { proxy, upstream, runtime }
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.proxy.addresses()[0])
    }

    /// Opens a legacy session at the newest version: its id.
    pub(super) fn initialize(&self, path: &str) -> String {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
        let (head, body) = ask(&self.proxy, post(path, &[], body));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
        header(&head, "mcp-session-id").unwrap()
    }

    pub(super) fn stop(self) {
        self.proxy.stop();
    }
}

/// The value of a header of an answer.
pub(super) fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// A POST of a caller who takes both forms of answers; `headers` come last and win.
pub(super) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut all = vec![
        ("host", "localhost"),
        ("authorization", "Bearer lg_caller-token-of-the-tests"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    all.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    let lines: Vec<_> = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = lines.concat();
    format!("POST {path} HTTP/1.1\r\n{lines}content-length: {}\r\n\r\n{body}", body.len())
}

/// A call of a tool by a legacy session.
pub(super) fn call(session: &str, id: u32, tool: &str) -> String {
    post("/mcp", &[("mcp-session-id", session)], &call_body(id, tool))
}

pub(super) fn call_body(id: u32, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"n":1.0}},"_meta":{{"progressToken":"p"}}}}}}"#
    )
}

/// A call of a tool by a modern client.
pub(super) fn modern_call(id: u32, tool: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"n":1.0}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", tool)];
    post("/mcp", &headers, &body)
}

pub(super) fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}
