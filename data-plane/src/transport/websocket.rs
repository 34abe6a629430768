//! One WebSocket: a text frame is a message, in both directions at once.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pingora::server::ShutdownWatch;
use tokio::{
    io::AsyncReadExt as _,
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::pipe::{self, Pipe};
use crate::error::Failure;

/// How long a client may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the rest of a message that is too long is read.
const DISCARD: Duration = Duration::from_secs(5);
/// Buffers start small: most sockets are idle.
const BUFFER: usize = 4096;
/// A client that was not heard of for so many pings is gone.
const PINGS_MISSED: u32 = 3;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How much a socket may hold, and how long it waits.
pub(crate) struct Bounds {
    /// Longest message.
    pub(crate) message_bytes: usize,
    /// From ping to ping.
    pub(crate) keep_alive: Duration,
    /// For a client that does not read.
    pub(crate) patience: Duration,
}

/// When the client was heard last.
struct Heard {
    since: Instant,
    ms: AtomicU64,
}

impl Heard {
    fn now(&self) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ms.store(ms, Relaxed);
    }

    fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.ms.load(Relaxed)))
    }
}

/// Why a socket is closed, and whether it is worth saying.
type Why = Option<CloseFrame>;

/// Serves a socket to its end. Its pipe ends with it.
pub(crate) async fn run(
    io: Upgraded,
    mut end: pipe::End,
    mut closing: ShutdownWatch,
    bounds: Bounds,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(bounds.message_bytes))
        .max_frame_size(Some(bounds.message_bytes));
    let socket = Socket::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let heard = Heard { since: Instant::now(), ms: AtomicU64::new(0) };
    let pipe = Arc::clone(&end.pipe);
    let why = tokio::select! {
        why = read(&mut stream, &pipe, &heard) => why,
        why = write(&mut sink, &mut end.messages, &heard, &bounds) => why,
        failure = pipe.over() => Some(match failure {
            Some(failure) => refusal(&failure),
            None => frame(CloseCode::Policy, "the client does not read"),
        }),
        () = pipe.last_calls(&mut closing) => Some(frame(CloseCode::Away, "the proxy ends")),
    };
    drop(end);
    let is_too_long = why.as_ref().is_some_and(|why| why.code == CloseCode::Size);
    let farewell = async {
        // The client may be gone already.
        if sink.send(Message::Close(why)).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    tokio::time::timeout(FAREWELL, farewell).await.ok();
    if is_too_long && let Ok(socket) = sink.reunite(stream) {
        discard(socket, bounds.message_bytes).await;
    }
}

/// Reads the rest of a message that is too long, or some of it: a client that is still writing
/// would otherwise see a broken connection and not why.
async fn discard(socket: Socket, limit: usize) {
    let mut rest = socket.into_inner().take((limit as u64).saturating_mul(2));
    let mut nowhere = tokio::io::sink();
    // Whether it ended or not, the connection is closed now.
    tokio::time::timeout(DISCARD, tokio::io::copy(&mut rest, &mut nowhere)).await.ok();
}

/// Gives the pipe what the client says, until it is over.
async fn read(stream: &mut SplitStream<Socket>, pipe: &Arc<Pipe>, heard: &Heard) -> Why {
    while let Some(message) = stream.next().await {
        heard.now();
        match message {
            Ok(Message::Text(text)) => {
                if let Err(failure) = pipe.read(text.into()).await {
                    return Some(refusal(&failure));
                }
            }
            Ok(Message::Binary(_)) => {
                return Some(frame(CloseCode::Unsupported, "messages are text frames"));
            }
            // Answered, or asked for, by the layer below.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(_)) => return None,
            Err(error) => return unreadable(&error),
        }
    }
    None
}

/// Sends what comes out of the pipe, and pings between.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    messages: &mut mpsc::Receiver<Bytes>,
    heard: &Heard,
    bounds: &Bounds,
) -> Why {
    let mut pings = tokio::time::interval(bounds.keep_alive);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await;
    loop {
        let message = tokio::select! {
            message = messages.recv() => match message.map(Utf8Bytes::try_from) {
                Some(Ok(text)) => Message::Text(text),
                // Answers are UTF-8, or they are not sent.
                Some(Err(_)) => continue,
                None => return None,
            },
            _ = pings.tick() => {
                if heard.silence() > bounds.keep_alive * PINGS_MISSED {
                    return Some(frame(CloseCode::Policy, "the client is silent"));
                }
                Message::Ping(Bytes::new())
            }
        };
        match tokio::time::timeout(bounds.patience, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(frame(CloseCode::Policy, "the client does not read")),
        }
    }
}

fn unreadable(error: &tungstenite::Error) -> Why {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Some(frame(CloseCode::Size, "the message is too long"))
        }
        tungstenite::Error::Utf8(_) => Some(frame(CloseCode::Invalid, "the text is not UTF-8")),
        tungstenite::Error::Protocol(_) => Some(frame(CloseCode::Protocol, "bad framing")),
        _ => None,
    }
}

/// Closing for who may not be here any more.
fn refusal(failure: &Failure) -> CloseFrame {
    failure.log();
    // A reason has at most 123 bytes; ours are ASCII and short.
    let reason: String = failure.to_string().chars().take(100).collect();
    frame(CloseCode::Policy, reason)
}

fn frame(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> CloseFrame {
    CloseFrame { code, reason: reason.into().into_owned().into() }
}
