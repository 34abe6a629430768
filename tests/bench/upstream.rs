//! The upstream of the benchmark: an MCP server that answers every call at once and does nothing else.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tests::bench::{RESULT, progress};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}"#;
const TOOLS: &str = r#"{"tools":[{"name":"get_forecast","description":"Weather","inputSchema":{"type":"object"}}]}"#;

/// How long it is waited before each event of a stream.
const PAUSE: Duration = Duration::from_millis(2);

type Body = Either<Full<Bytes>, StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>>;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    #[serde(default)]
    arguments: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    events: u64,
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
    if request.method() != Method::POST {
        return Ok(empty(StatusCode::METHOD_NOT_ALLOWED));
    }
    let Ok(body) = request.into_body().collect().await else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    let body = body.to_bytes();
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&body) else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    let Some(id) = envelope.id.map(RawValue::get) else { return Ok(empty(StatusCode::ACCEPTED)) };
    if envelope.params.arguments.events > 0 {
        return Ok(streamed(id.to_owned(), envelope.params.arguments.events));
    }
    let member = match envelope.method {
        "initialize" => format!(r#""result":{INITIALIZED}"#),
        "tools/list" => format!(r#""result":{TOOLS}"#),
        "tools/call" => RESULT.to_owned(),
        "ping" => r#""result":{}"#.to_owned(),
        _ => r#""error":{"code":-32601,"message":"Method not found"}"#.to_owned(),
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{member}}}"#);
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Tells of progress again and again, and answers then.
fn streamed(id: String, events: u64) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 1..=events {
            tokio::time::sleep(PAUSE).await;
            // A clock before 1970 gives an event that nobody counts.
            let event = progress(number).unwrap_or_default();
            sender.send(Ok(Frame::data(format!("data: {event}\n\n").into()))).await.ok();
        }
        let last = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},{RESULT}}}\n\n");
        sender.send(Ok(Frame::data(last.into()))).await.ok();
    });
    let mut response = Response::new(Either::Right(StreamBody::new(receiver.into())));
    let kind = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}
