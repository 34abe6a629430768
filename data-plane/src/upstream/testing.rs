//! Small real servers and calls for the tests of the adapters.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proto::{
    Era, Position,
    resource::{CredentialResource, Resource, ToolResource, ToolTarget, UpstreamResource},
    upstream::{CatalogScope, Transport},
};

use tokio::sync::mpsc;

use super::{
    AllowStdio, Call, CallError, Event, Health, Limits, Reply, SessionKey, Upstreams,
    audience::Stage,
    pipe::Connection,
    question::{Back, Question},
};
use crate::{
    egress::Egress,
    mcp::{Capabilities, Version, addressee::Addressee, level::Wanted, message::parse},
    snapshot::table::{Table, ToolEntry},
    target::Target,
};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A request as a test server sees it.
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A member of the JSON body.
    pub(crate) fn member(&self, pointer: &str) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body.pointer(pointer).cloned().unwrap_or_default()
    }
}

/// Serves on a port of its own until the runtime of the test ends.
pub(crate) async fn serve<F>(handler: F) -> SocketAddr
where
    F: Fn(Seen) -> Response<Body> + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Arc::new(handler);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = Arc::clone(&handler);
            tokio::spawn(async move {
                let service = service_fn(move |request| respond(Arc::clone(&handler), request));
                let http = hyper::server::conn::http1::Builder::new();
                http.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

async fn respond<F>(
    handler: Arc<F>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error>
where
    F: Fn(Seen) -> Response<Body>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = handler(Seen {
        method: head.method,
        uri: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    if answer.extensions().get::<Never>().is_some() {
        std::future::pending::<()>().await;
    }
    // An error makes hyper drop the connection.
    if answer.extensions().get::<Cut>().is_some() {
        Err(std::io::ErrorKind::Other.into())
    } else {
        Ok(answer)
    }
}

#[derive(Clone)]
struct Cut;

#[derive(Clone)]
struct Never;

/// No answer, not even its head.
pub(crate) fn never() -> Response<Body> {
    let mut response = answer(200, "", "");
    response.extensions_mut().insert(Never);
    response
}

/// No answer: the connection is cut.
pub(crate) fn cut() -> Response<Body> {
    let mut response = answer(200, "", "");
    response.extensions_mut().insert(Cut);
    response
}

pub(crate) fn answer(status: u16, media: &str, body: impl Into<Bytes>) -> Response<Body> {
    streamed(status, media, stream::iter([body.into()]))
}

pub(crate) fn json(body: impl Into<Bytes>) -> Response<Body> {
    answer(200, "application/json", body)
}

pub(crate) fn sse(body: impl Into<Bytes>) -> Response<Body> {
    answer(200, "text/event-stream", body)
}

pub(crate) fn streamed(
    status: u16,
    media: &str,
    chunks: impl Stream<Item = Bytes> + Send + Sync + 'static,
) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if !media.is_empty() {
        response.headers_mut().insert("content-type", media.parse().unwrap());
    }
    response
}

/// Answers in the way a hung server does: never.
pub(crate) fn hang(status: u16, media: &str, first: &'static str) -> Response<Body> {
    streamed(status, media, stream::iter([Bytes::from(first)]).chain(stream::pending()))
}

pub(crate) fn limits() -> Limits {
    Limits {
        call_timeout: std::time::Duration::from_millis(700),
        message_max: 100_000,
        ..Limits::default()
    }
}

/// A proxy with one upstream, `u1`.
pub(crate) struct Proxy {
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) table: Arc<Table>,
}

pub(crate) fn upstream(transport: Transport) -> UpstreamResource {
    UpstreamResource {
        id: "u1".to_owned(),
        name: "up".parse().unwrap(),
        transport,
        credential_id: None,
        catalog_scope: CatalogScope::Shared,
        era: None,
        protocol_version: String::new(),
        instructions: String::new(),
        disabled: false,
        capabilities: String::new(),
    }
}

pub(crate) fn http(address: SocketAddr) -> Transport {
    Transport::Http { url: format!("http://{address}/mcp").parse().unwrap() }
}

impl Proxy {
    pub(crate) fn new(resource: UpstreamResource) -> Self {
        Self::with(vec![resource], Vec::new())
    }

    /// One that waits long enough for an interpreter to start on a busy machine.
    pub(crate) fn patient(resource: UpstreamResource) -> Self {
        let call_timeout = std::time::Duration::from_secs(30);
        Self::limited(vec![resource], Vec::new(), Limits { call_timeout, ..limits() })
    }

    pub(crate) fn with(
        upstreams: Vec<UpstreamResource>,
        credentials: Vec<CredentialResource>,
    ) -> Self {
        Self::limited(upstreams, credentials, limits())
    }

    pub(crate) fn limited(
        upstreams: Vec<UpstreamResource>,
        credentials: Vec<CredentialResource>,
        limits: Limits,
    ) -> Self {
        let table = table(upstreams, credentials);
        let upstreams =
            Upstreams::new(Egress::new(), AllowStdio::Yes, std::env::temp_dir(), limits);
        upstreams.reconcile(&table);
        Self { upstreams, table }
    }

    /// Calls a tool of `u1` as a client would; gives the events as texts.
    pub(crate) async fn run(&self, call: Call) -> Vec<String> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match self.call(call).await {
            Err(error) => vec![error.to_string()],
            Ok(Reply::Response(body)) => vec![text(body.into_bytes())],
            Ok(Reply::InputRequired(answer)) => vec![format!("asks {}", text(answer.into_body()))],
            Ok(Reply::Events(mut events)) => {
                let mut out = Vec::new();
                while let Some(event) = events.next().await {
                    out.push(match event {
                        Ok(Event::Notification(body)) => format!("notification {}", text(body)),
                        Ok(Event::Response(body)) => {
                            format!("response {}", text(body.into_bytes()))
                        }
                        Ok(Event::Request(question)) => {
                            let capabilities = Capabilities::all();
                            let version = Version::NEWEST;
                            let to = Addressee { capabilities, version, asker: None };
                            let asked = text(question.under(b"0", &to));
                            let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"given":1.0}}"#;
                            question.answer(&parse(answer.into()).unwrap());
                            format!("request {asked}")
                        }
                        Ok(Event::InputRequired(message)) => format!("wants {}", message.text()),
                        Ok(Event::Withdrawn(id)) => format!("withdrawn {}", text(id)),
                        Err(error) => error.to_string(),
                    });
                }
                out
            }
        }
    }

    pub(crate) async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.upstreams.call(&self.table, &call).await
    }
}

pub(crate) fn table(
    upstreams: Vec<UpstreamResource>,
    credentials: Vec<CredentialResource>,
) -> Arc<Table> {
    let upstreams = upstreams.into_iter().map(Resource::Upstream);
    let credentials = credentials.into_iter().map(Resource::Credential);
    let resources: Vec<_> = upstreams.chain(credentials).collect();
    Arc::new(Table::compile(resources.iter(), Position::default()).unwrap())
}

pub(crate) fn entry(resource: ToolResource) -> Arc<ToolEntry> {
    let upstream =
        upstream("http://127.0.0.1:1/".parse().map(|url| Transport::Http { url }).unwrap());
    let credential =
        Resource::Credential(CredentialResource { id: "c1".to_owned(), headers: BTreeMap::new() });
    let tool = Resource::Tool(resource.clone());
    let resources = [Resource::Upstream(upstream), credential, tool];
    let table = Table::compile(resources.iter(), Position::default()).unwrap();
    Arc::clone(table.everything().tool(&resource.name).unwrap())
}

/// The tool `up-do` of `u1`, `do` there.
pub(crate) fn tool() -> ToolResource {
    ToolResource {
        id: "t1".to_owned(),
        name: "up-do".to_owned(),
        target: ToolTarget::Upstream {
            upstream_id: "u1".to_owned(),
            original_name: "do".to_owned(),
        },
        definition: r#"{"name":"do","inputSchema":{"type":"object"}}"#.to_owned(),
        needs_client_capabilities: Vec::new(),
        aliases: Vec::new(),
    }
}

/// A question with a raw id, and what is said back to who asked. `rest` are more members.
pub(crate) fn question(id: &str, rest: &str) -> (Question, mpsc::Receiver<Bytes>) {
    let health = Health::new(String::new(), Arc::default(), Stage::default()).named("up");
    let (pipe, said) = Connection::new(Arc::new(health), None);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#);
    let question = Question::new(
        Box::new(parse(body.into()).unwrap()),
        Back::Pipe(pipe, None),
        Arc::default(),
    );
    (question, said)
}

/// A legacy client's call with raw id and arguments, in its own session.
pub(crate) fn legacy_call(id: &str, arguments: &str) -> Call {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"up-do","arguments":{arguments},"_meta":{{"progressToken":"tok"}}}}}}"#
    );
    Call {
        message: parse(body.into()).unwrap(),
        target: Target::tool(entry(tool())),
        client_era: Era::Legacy,
        client_version: Version::V2025_11_25,
        capabilities: Capabilities::of(&["roots", "sampling.tools", "sampling"]),
        written: None,
        hears: crate::mcp::extension::Hears::Core,
        askers: crate::mcp::elicitation::Askers::One,
        logs: Wanted::Any,
        session: SessionKey::Client([7; 16]),
        subject: "ann".into(),
        round: 0,
        tasks: None,
    }
}

/// A modern client's call.
pub(crate) fn modern_call(id: &str, arguments: &str) -> Call {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"up-do","arguments":{arguments},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{"sampling":{{}}}},"progressToken":5}}}}}}"#
    );
    Call {
        message: parse(body.into()).unwrap(),
        client_era: Era::Modern,
        client_version: Version::V2026_07_28,
        session: SessionKey::Principal { subject: "ann".into(), capabilities: 1 },
        ..legacy_call("0", "{}")
    }
}
