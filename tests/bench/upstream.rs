//! The upstream of the benchmark: MCP servers and a REST API that answer at once and do nothing else.
//!
//! Paths: `/mcp` and `/legacy/…` speak 2025-11-25, `/modern/…` 2026-07-28. `…/json` (and `/mcp`)
//! answers calls with JSON, `…/events` with an event stream, `…/list/N` has N tools, `…/spread/K` is
//! one of many. `/rest` is the REST API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{LazyLock, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tests::bench::body::Parts;
use tests::bench::message::{self, Era, UPSTREAM_TOOL, progress};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INITIALIZED: &str = r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}}"#;
const DISCOVERED: &str = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"},"ttlMs":60000,"cacheScope":"public"}}"#;
const UNKNOWN: &str = r#""error":{"code":-32601,"message":"Method not found"}}"#;
const MISMATCH: &str = r#""error":{"code":-32020,"message":"Mcp-Name is not params.name"}}"#;

/// How long it is waited before each event of a stream.
const PAUSE: Duration = Duration::from_millis(2);

type Body = Either<Parts, StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>>;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Params<'a>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: &'a str,
    #[serde(default)]
    arguments: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    events: u64,
    #[serde(default)]
    answer: usize,
}

/// What is behind a path.
#[derive(Clone, Copy)]
struct Place {
    era: Era,
    in_events: bool,
    tools: usize,
}

impl Place {
    fn of(path: &str) -> Self {
        let mut parts = path.split('/').skip(1);
        let era = if parts.next() == Some("modern") { Era::Modern } else { Era::Legacy };
        let (kind, number) = (parts.next(), parts.next());
        let tools = number.filter(|_| kind == Some("list")).and_then(|it| it.parse().ok());
        Self { era, in_events: kind == Some("events"), tools: tools.unwrap_or(1) }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service_fn(serve));
            // The load generator closes its connections as it likes.
            connection.await.ok();
        });
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::DELETE {
        return Ok(empty(StatusCode::OK));
    }
    if parts.method != Method::POST {
        return Ok(empty(StatusCode::METHOD_NOT_ALLOWED));
    }
    let Ok(body) = body.collect().await else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    if parts.uri.path() == "/rest" {
        return Ok(json(message::rest_answer().into()));
    }
    let body = body.to_bytes();
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&body) else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    Ok(answer(Place::of(parts.uri.path()), &parts.headers, &envelope))
}

fn answer(place: Place, headers: &HeaderMap, envelope: &Envelope<'_>) -> Response<Body> {
    let Some(id) = envelope.id.map(RawValue::get) else { return empty(StatusCode::ACCEPTED) };
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"#);
    let Params { name, arguments } = &envelope.params;
    if arguments.events > 0 {
        return streamed(head, arguments.events);
    }
    let tail = match (envelope.method, place.era) {
        ("initialize", Era::Legacy) => Bytes::from_static(INITIALIZED.as_bytes()),
        ("server/discover", Era::Modern) => Bytes::from_static(DISCOVERED.as_bytes()),
        ("tools/list", era) => kept((era, true, place.tools)),
        ("tools/call", Era::Modern)
            if headers
                .get("mcp-name")
                .is_none_or(|mirrored| mirrored.as_bytes() != name.as_bytes()) =>
        {
            Bytes::from_static(MISMATCH.as_bytes())
        }
        ("tools/call", era) => kept((era, false, arguments.answer)),
        ("ping", _) => Bytes::from_static(br#""result":{}}"#),
        _ => Bytes::from_static(UNKNOWN.as_bytes()),
    };
    if place.in_events && envelope.method == "tools/call" {
        let event =
            Parts::new(format!("event: message\ndata: {head}"), [&tail, &b"\n\n"[..]].concat());
        return with_type(Either::Left(event), "text/event-stream");
    }
    json(Parts::new(head, tail))
}

fn json(body: Parts) -> Response<Body> {
    with_type(Either::Left(body), "application/json")
}

fn with_type(body: Body, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Which answer: its era, whether it is a list, how many tools or bytes.
type Key = (Era, bool, usize);

/// Answers are made once: this server is to be faster than what is measured.
fn kept(key: Key) -> Bytes {
    static KEPT: LazyLock<RwLock<HashMap<Key, Bytes>>> = LazyLock::new(RwLock::default);
    let found = KEPT.read().ok().and_then(|kept| kept.get(&key).cloned());
    found.unwrap_or_else(|| {
        let (era, is_list, size) = key;
        let made = if is_list { tools(era, size).into() } else { message::answer(era, size) };
        if let Ok(mut kept) = KEPT.write() {
            kept.insert(key, made.clone());
        }
        made
    })
}

/// So many tools, described as real ones are.
fn tools(era: Era, count: usize) -> String {
    let tool = |number: usize| {
        let name =
            if number == 0 { UPSTREAM_TOOL.to_owned() } else { format!("get_forecast_{number}") };
        format!(
            r#"{{"name":"{name}","description":"Weather forecast number {number} for a city, in the unit that is asked for","inputSchema":{{"type":"object","properties":{{"city":{{"type":"string","description":"Name of the city"}},"unit":{{"type":"string","enum":["C","F"]}}}},"required":["city"]}}}}"#
        )
    };
    let tools: Vec<String> = (0..count).map(tool).collect();
    let rest = match era {
        Era::Legacy => "",
        Era::Modern => r#","resultType":"complete","ttlMs":60000,"cacheScope":"public""#,
    };
    format!(r#""result":{{"tools":[{}]{rest}}}}}"#, tools.join(","))
}

/// Tells of progress again and again, and answers then.
fn streamed(head: String, events: u64) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 1..=events {
            tokio::time::sleep(PAUSE).await;
            // A clock before 1970 gives an event that nobody counts.
            let event = progress(number).unwrap_or_default();
            sender.send(Ok(Frame::data(format!("data: {event}\n\n").into()))).await.ok();
        }
        let answer = message::answer(Era::Legacy, 0);
        let last = format!("data: {head}{}\n\n", String::from_utf8_lossy(&answer));
        sender.send(Ok(Frame::data(last.into()))).await.ok();
    });
    with_type(Either::Right(StreamBody::new(receiver.into())), "text/event-stream")
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Parts::default()));
    *response.status_mut() = status;
    response
}
