//! The same misbehaviour over HTTP+SSE, WebSocket and standard input and output.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as SocketFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{Behaviour, Counts, INITIALIZED, floods, speech, tools};
use crate::http_server::{Body, HttpServer, answer, empty};

const PIECE: usize = 1 << 20;
const NOTICE: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"more"}}"#;

/// What is said to one request.
enum Said {
    Nothing,
    Message(String),
    /// One after the other.
    Messages(Vec<String>),
    /// These, and then all kinds of things for ever.
    Flood(Vec<String>),
    /// The same message for ever.
    Endless(&'static str),
    /// A gigabyte that begins like this.
    Huge(String),
    CutOff,
}

fn said(behaviour: Behaviour, message: &[u8], counts: &Counts) -> Said {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        method: String,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let Ok(Envelope { method, id }) = serde_json::from_slice::<Envelope<'_>>(message) else {
        counts.note_answer(message);
        return Said::Nothing;
    };
    let Some(id) = id.map(RawValue::get) else { return Said::Nothing };
    let result =
        |result: &str| Said::Message(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    if let (Behaviour::FloodsAside, Some(said)) = (behaviour, floods::answer(&method)) {
        return result(said);
    }
    match method.as_str() {
        "initialize" => result(INITIALIZED),
        "tools/list" => result(&tools(behaviour, counts.calls())),
        "ping" => result("{}"),
        "tools/call" => {
            counts.one_more_call();
            if let Some(messages) = speech(behaviour, id) {
                if behaviour == Behaviour::FloodsAside {
                    return Said::Flood(messages);
                }
                return Said::Messages(messages);
            }
            match behaviour {
                Behaviour::Hangs => Said::Nothing,
                Behaviour::WrongId => {
                    let answer = r#"{"jsonrpc":"2.0","id":987654321,"result":{"content":[]}}"#;
                    Said::Message(answer.to_owned())
                }
                Behaviour::BadJson => {
                    Said::Message(r#"{"jsonrpc":"2.0","id":1,"result":{"content":["#.to_owned())
                }
                Behaviour::EndlessEvents => Said::Endless(NOTICE),
                Behaviour::HugeBody => {
                    Said::Huge(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"x":""#))
                }
                Behaviour::CutsOff => Said::CutOff,
                _ => result(r#"{"content":[]}"#),
            }
        }
        _ => Said::Message(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#
        )),
    }
}

/// A running server behind a pipe.
pub struct Piped {
    url: String,
    counts: Arc<Counts>,
    _server: Running,
}

enum Running {
    Http { _server: HttpServer },
    Socket { task: JoinHandle<()> },
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Socket { task } = self {
            task.abort();
        }
    }
}

impl Piped {
    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often its tool was called.
    pub fn calls(&self) -> u64 {
        self.counts.calls()
    }

    /// What it has done and was told.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Starts one over HTTP+SSE.
    pub async fn sse(behaviour: Behaviour) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let streams = Arc::new(Streams::default());
        let counted = Arc::clone(&counts);
        let server = HttpServer::start(move |request| {
            let (streams, counts) = (Arc::clone(&streams), Arc::clone(&counted));
            async move { streams.serve(behaviour, counts, request).await }
        })
        .await?;
        Ok(Self { url: server.url("/sse"), counts, _server: Running::Http { _server: server } })
    }

    /// Starts one over WebSocket.
    pub async fn websocket(behaviour: Behaviour) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        let counted = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            let mut sockets = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&counted);
                sockets.spawn(async move { socket(stream, behaviour, &counts).await });
            }
        });
        let server = Running::Socket { task };
        Ok(Self { url: format!("ws://{address}/ws"), counts, _server: server })
    }
}

type Chunks = mpsc::Sender<Bytes>;

#[derive(Default)]
struct Streams {
    open: tokio::sync::Mutex<HashMap<u64, Chunks>>,
    next: AtomicU64,
}

impl Streams {
    async fn serve(
        &self,
        behaviour: Behaviour,
        counts: Arc<Counts>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if request.method() == Method::GET {
            return self.begin().await;
        }
        let query = request.uri().query().unwrap_or_default();
        let Ok(id) = query.trim_start_matches("session=").parse::<u64>() else {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        };
        let Some(chunks) = self.open.lock().await.get(&id).cloned() else {
            return empty(StatusCode::NOT_FOUND);
        };
        let Ok(body) = request.into_body().collect().await else {
            return empty(StatusCode::BAD_REQUEST);
        };
        match said(behaviour, &body.to_bytes(), &counts) {
            Said::CutOff => drop(self.open.lock().await.remove(&id)),
            said => drop(tokio::spawn(event(chunks, said, counts))),
        }
        empty(StatusCode::ACCEPTED)
    }

    async fn begin(&self) -> Response<Body> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, chunks) = mpsc::channel(4);
        let first = Bytes::from(format!("event: endpoint\ndata: /message?session={id}\n\n"));
        // Nobody reads it before there is room for it.
        sender.try_send(first).ok();
        self.open.lock().await.insert(id, sender);
        let frames = tokio_stream::wrappers::ReceiverStream::new(chunks)
            .map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
        let mut response = answer(StatusCode::OK, "text/event-stream", Bytes::new());
        *response.body_mut() = StreamBody::new(frames).boxed_unsync();
        response
    }
}

async fn event(chunks: Chunks, said: Said, counts: Arc<Counts>) {
    let whole = |message: &str| Bytes::from(format!("event: message\ndata: {message}\n\n"));
    match said {
        Said::Nothing | Said::CutOff => (),
        Said::Message(message) => drop(chunks.send(whole(&message)).await),
        Said::Messages(messages) => {
            for message in messages {
                chunks.send(whole(&message)).await.ok();
            }
        }
        Said::Flood(first) => {
            for message in first.into_iter().chain((0..).map(floods::message)) {
                if chunks.send(whole(&message)).await.is_err() {
                    return;
                }
                counts.one_more_said();
            }
        }
        Said::Endless(message) => {
            while chunks.send(whole(message)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Said::Huge(start) => {
            let start = Bytes::from(format!("data: {start}"));
            let pieces = std::iter::repeat_n(Bytes::from(vec![b'a'; PIECE]), 1024);
            for piece in std::iter::once(start).chain(pieces) {
                if chunks.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn socket(stream: TcpStream, behaviour: Behaviour, counts: &Counts) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if !message.is_text() {
            continue;
        }
        match said(behaviour, &message.into_data(), counts) {
            Said::Nothing => (),
            Said::Message(message) => socket.send(Message::text(message)).await?,
            Said::Messages(messages) => {
                for message in messages {
                    socket.send(Message::text(message)).await?;
                }
            }
            Said::Flood(first) => {
                for message in first.into_iter().chain((0..).map(floods::message)) {
                    socket.send(Message::text(message)).await?;
                    counts.one_more_said();
                    // What it is told it does not hear, but takes.
                    while let Some(Some(taken)) = socket.next().now_or_never() {
                        taken?;
                    }
                }
            }
            Said::Endless(message) => loop {
                socket.send(Message::text(message)).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
            Said::Huge(start) => {
                let first = (Data::Text, Bytes::from(start));
                let piece = Bytes::from(vec![b'a'; PIECE]);
                let pieces = std::iter::repeat_n((Data::Continue, piece), 1024);
                let mut pieces = stream::iter(std::iter::once(first).chain(pieces));
                while let Some((kind, piece)) = pieces.next().await {
                    let frame = SocketFrame::message(piece, OpCode::Data(kind), false);
                    socket.send(Message::Frame(frame)).await?;
                }
            }
            Said::CutOff => return Ok(()),
        }
    }
    Ok(())
}

/// Serves on standard input and output until the input ends.
pub fn serve_stdio(behaviour: Behaviour) -> anyhow::Result<()> {
    let counts = Counts::default();
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        match said(behaviour, line?.as_bytes(), &counts) {
            Said::Nothing => (),
            Said::Message(message) => writeln!(output, "{message}")?,
            Said::Messages(messages) => {
                for message in messages {
                    writeln!(output, "{message}")?;
                }
            }
            Said::Flood(first) => drop(std::thread::spawn(move || {
                let mut output = std::io::stdout();
                for message in first.into_iter().chain((0..).map(floods::message)) {
                    // Nobody reads any more.
                    let Ok(()) = writeln!(output, "{message}") else { return };
                }
            })),
            Said::Endless(message) => loop {
                writeln!(output, "{message}")?;
                std::thread::sleep(Duration::from_millis(1));
            },
            Said::Huge(start) => {
                write!(output, "{start}")?;
                let piece = vec![b'a'; PIECE];
                for _ in 0..1024 {
                    output.write_all(&piece)?;
                }
            }
            Said::CutOff => return Ok(()),
        }
        output.flush()?;
    }
    Ok(())
}
