//! What Lockgate is measured against: hyper on both sides, the same token check, parse and splice, nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde_json::value::RawValue;
use tests::bench::{CLIENT_TOOL, Claims, SECRET, UPSTREAM_TOOL};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_BODY: usize = 16 << 20;

type Body = Either<Full<Bytes>, Incoming>;
type Tools = HashMap<String, &'static str, ahash::RandomState>;

struct Proxy {
    upstream: Uri,
    tools: ArcSwap<Tools>,
    verified: RwLock<HashMap<Box<[u8]>, u64, ahash::RandomState>>,
    key: DecodingKey,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// The outside of a message; parts are found, not built.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let upstream = std::env::args().nth(1).context("usage: bench_bare_proxy UPSTREAM_URL")?;
    let mut tools: Tools = HashMap::default();
    for number in 0..500 {
        tools.insert(format!("other-tool-{number}"), UPSTREAM_TOOL);
    }
    tools.insert(CLIENT_TOOL.to_owned(), UPSTREAM_TOOL);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        upstream: upstream.parse()?,
        tools: ArcSwap::from_pointee(tools),
        verified: RwLock::default(),
        key: DecodingKey::from_secret(SECRET.as_bytes()),
        client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4096).build(connector),
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
    let Some(body) = proxy.routed(body.to_bytes()) else {
        return Ok(refusal(StatusCode::BAD_REQUEST));
    };
    let mut forwarded = Request::new(Full::new(body));
    *forwarded.method_mut() = http::Method::POST;
    *forwarded.uri_mut() = proxy.upstream.clone();
    let headers = forwarded.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, accepted);
    if let Some(session) = parts.headers.get("mcp-session-id") {
        headers.insert("mcp-session-id", session.clone());
    }
    Ok(proxy.client.request(forwarded).await?.map(Either::Right))
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

    /// The body for the upstream: a call gets the upstream's tool name, at the place of the client's.
    fn routed(&self, body: Bytes) -> Option<Bytes> {
        let envelope: Envelope<'_> = serde_json::from_slice(&body).ok()?;
        if envelope.method != "tools/call" {
            return Some(body);
        }
        let call: CallParams<'_> = serde_json::from_str(envelope.params?.get()).ok()?;
        let literal = call.name.get();
        let name: Cow<'_, str> = serde_json::from_str(literal).ok()?;
        let tools = self.tools.load();
        let original = tools.get(name.as_ref())?;
        let start = (literal.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
        let mut spliced = BytesMut::with_capacity(body.len() + original.len());
        spliced.put_slice(body.get(..start)?);
        spliced.put_u8(b'"');
        spliced.put_slice(original.as_bytes());
        spliced.put_u8(b'"');
        spliced.put_slice(body.get(start + literal.len()..)?);
        Some(spliced.freeze())
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}
