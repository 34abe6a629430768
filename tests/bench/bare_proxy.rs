//! What Lockgate is measured against: hyper on both sides, the same token check, parse and splice, nothing else.
//!
//! `bench_bare_proxy UPSTREAM_URL [LIST_FILE]`. Paths are those of the upstream. Requests of the modern era
//! get its headers, with the upstream's name of the tool; what goes to `/rest` is passed as it is. With a
//! file it answers `tools/list` itself: the id, then the bytes of the file.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::Bytes;
use data_plane::mcp::Kind;
use data_plane::mcp::message::{parse, splice};
use data_plane::mcp::method::Method as McpMethod;
use http::uri::PathAndQuery;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{DecodingKey, Validation};
use tests::bench::body::Parts;
use tests::bench::message::exposed;
use tests::bench::{CLIENT_TOOL, Claims, SECRET, UPSTREAM_TOOL};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_BODY: usize = 16 << 20;
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

type Body = Either<Parts, Incoming>;
type Tools = HashMap<String, &'static str, ahash::RandomState>;

struct Proxy {
    upstream: Uri,
    tools: ArcSwap<Tools>,
    verified: RwLock<HashMap<Box<[u8]>, u64, ahash::RandomState>>,
    key: DecodingKey,
    client: Client<HttpConnector, Full<Bytes>>,
    /// What it answers to `tools/list` itself, after the id.
    list: Option<Bytes>,
}

/// What happens to a message.
enum Plan {
    /// It is forwarded; of a call the name of the tool goes into a header too.
    Forward(Bytes, Option<&'static str>),
    Answer(Parts),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let upstream = arguments.next().context("usage: bench_bare_proxy UPSTREAM_URL [LIST_FILE]")?;
    let list = arguments.next().map(std::fs::read).transpose()?.map(Bytes::from);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        upstream: upstream.parse()?,
        tools: ArcSwap::from_pointee(tools()),
        verified: RwLock::default(),
        key: DecodingKey::from_secret(SECRET.as_bytes()),
        client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4096).build(connector),
        list,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(Arc::clone(&proxy), request));
            let connection = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service);
            // The load generator closes its connections as it likes.
            connection.await.ok();
        });
    }
}

/// As many as a gateway may have, those of the benchmark among them.
fn tools() -> Tools {
    let ours = (1..=20).map(|number| format!("spread{number}"));
    let ours = ours.chain(["modern", "legacy-events", "modern-events"].map(str::to_owned));
    let ours = ours.map(|upstream| exposed(&upstream)).chain([CLIENT_TOOL.to_owned()]);
    let others = (0..500).map(|number| format!("other-tool-{number}"));
    ours.chain(others).map(|name| (name, UPSTREAM_TOOL)).collect()
}

async fn serve(
    proxy: Arc<Proxy>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper_util::client::legacy::Error> {
    let (parts, body) = request.into_parts();
    if !proxy.is_allowed(&parts.headers) {
        return Ok(refusal(StatusCode::UNAUTHORIZED));
    }
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let body = body.to_bytes();
    let is_message = parts.method == Method::POST && parts.uri.path() != "/rest";
    let plan = if is_message { proxy.plan(body) } else { Some(Plan::Forward(body, None)) };
    let (body, tool) = match plan {
        Some(Plan::Forward(body, tool)) => (body, tool),
        Some(Plan::Answer(answer)) => return Ok(json(answer)),
        None => return Ok(refusal(StatusCode::BAD_REQUEST)),
    };
    let mut forwarded = Request::new(Full::new(body));
    *forwarded.uri_mut() = proxy.target(parts.uri.path_and_query());
    *forwarded.method_mut() = parts.method;
    *forwarded.headers_mut() = headers(parts.headers, tool);
    Ok(proxy.client.request(forwarded).await?.map(Either::Right))
}

/// What the upstream has to be told, and nothing of what the client said for the proxy.
fn headers(mut received: HeaderMap, tool: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, accepted);
    for name in [SESSION, VERSION, METHOD] {
        if let Some(value) = received.remove(&name) {
            headers.insert(name, value);
        }
    }
    if let (true, Some(tool)) = (headers.contains_key(METHOD), tool) {
        headers.insert(NAME, HeaderValue::from_static(tool));
    }
    headers
}

impl Proxy {
    /// Verifies a token once and remembers until when it is good.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let header = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Some(token) = header.and_then(|header| header.strip_prefix(b"Bearer ")) else {
            return false;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let known = self.verified.read().ok().and_then(|known| known.get(token).copied());
        if known.is_some_and(|until| until > now) {
            return true;
        }
        let rules = Validation { validate_aud: false, ..Validation::default() };
        let Ok(claims) = jsonwebtoken::decode::<Claims>(token, &self.key, &rules) else {
            return false;
        };
        if let Ok(mut known) = self.verified.write() {
            known.insert(token.into(), claims.claims.exp);
        }
        true
    }

    /// The same place at the upstream.
    fn target(&self, place: Option<&PathAndQuery>) -> Uri {
        let mut parts = self.upstream.clone().into_parts();
        parts.path_and_query = place.cloned();
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// A call gets the upstream's tool name, at the place of the client's.
    fn plan(&self, body: Bytes) -> Option<Plan> {
        let message = parse(body).ok()?;
        let Kind::Request(request) = &message.kind else {
            return Some(Plan::Forward(message.into_body(), None));
        };
        if let (Some(list), McpMethod::ToolsList) = (&self.list, &request.method) {
            let id = format!(r#"{{"jsonrpc":"2.0","id":{},"#, request.id.of(message.text()));
            return Some(Plan::Answer(Parts::new(id, list.clone())));
        }
        let McpMethod::ToolsCall = request.method else {
            return Some(Plan::Forward(message.into_body(), None));
        };
        let name = request.params.name.as_ref()?;
        let tools = self.tools.load();
        let original = *tools.get(name.as_str()?)?;
        let spliced = splice(message.body(), &[(name.span, format!("\"{original}\""))]);
        Some(Plan::Forward(spliced, Some(original)))
    }
}

fn json(body: Parts) -> Response<Body> {
    let mut response = Response::new(Either::Left(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Parts::default()));
    *response.status_mut() = status;
    response
}
