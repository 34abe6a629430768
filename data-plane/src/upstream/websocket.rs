//! MCP over a WebSocket: one JSON-RPC message per text frame, both ways. The socket is the
//! session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, HeaderValue, Request, Uri, header, uri::Authority};
use tokio::{sync::mpsc, task::consume_budget, time::Instant};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        error::{Error, ProtocolError, SubProtocolError},
        handshake::client::generate_key,
        protocol::WebSocketConfig,
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    failure::CallFailure,
    fetch::{self, Bounds},
    pipe::{Connection, Fresh, Guard, Link, Wanted, refusal},
    spawner::Listener as _,
};
use crate::egress::{self, Egress, Provenance, Socket};

/// How long connection, upgrade and handshake may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the server is asked whether it lives; one that says nothing until the next time
/// does not.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a server may take to read one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const BUFFER_SIZE: usize = 8 * 1024;
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("mcp");

type Sink = SplitSink<WebSocketStream<Socket>, Message>;
type Source = SplitStream<WebSocketStream<Socket>>;

/// The way to the socket of an upstream.
#[derive(Debug)]
pub(crate) struct WebSocket {
    egress: Egress,
    uri: Uri,
    /// The credential's headers.
    secrets: HeaderMap,
    /// It does not know the subprotocol `mcp`.
    is_plain: AtomicBool,
}

impl WebSocket {
    /// `uri` is `ws://` or `wss://`.
    pub(crate) fn new(egress: Egress, uri: Uri, secrets: HeaderMap) -> Self {
        Self { egress, uri, secrets, is_plain: AtomicBool::new(false) }
    }

    /// Connects and greets the server.
    pub(crate) async fn open(&self, wanted: Wanted) -> Result<Link, CallFailure> {
        let Wanted { limits, health, owner, declared, era } = wanted;
        let bounds = Bounds::of_step(&limits, OPEN_TIMEOUT);
        let stream = bounds.within(self.connect(limits.message_max)).await??;
        let (connection, input) = Connection::new(health, owner);
        let (sink, source) = stream.split();
        let heard = Arc::new(AtomicBool::new(true));
        let stop = CancellationToken::new();
        let reading = read(source, Arc::clone(&connection), Arc::clone(&heard), limits.message_max);
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        tokio::spawn(write(sink, input, Arc::clone(&connection), (heard, stop.clone())));
        let guard = Guard::Tasks { _stop: stop.drop_guard() };
        let fresh = Fresh { connection, guard, bounds, declared };
        if era == Some(proto::Era::Legacy) {
            return fresh.greet_legacy().await;
        }
        let handshake = match fresh.probe().await? {
            Some(handshake) => handshake,
            None => fresh.initialize().await?.map_err(refusal)?,
        };
        Ok(fresh.link(handshake))
    }

    async fn connect(&self, message_max: usize) -> Result<WebSocketStream<Socket>, CallFailure> {
        if !self.is_plain.load(Ordering::Relaxed) {
            match self.upgrade(message_max, Some(SUBPROTOCOL)).await {
                Err(Refusal::NoSubprotocol) => self.is_plain.store(true, Ordering::Relaxed),
                Err(Refusal::Other(failure)) => return Err(failure),
                Ok(stream) => return Ok(stream),
            }
        }
        self.upgrade(message_max, None).await.map_err(|refusal| match refusal {
            Refusal::NoSubprotocol => {
                CallFailure::Initialize("it chose a subprotocol that nobody offered".to_owned())
            }
            Refusal::Other(failure) => failure,
        })
    }

    async fn upgrade(
        &self,
        message_max: usize,
        subprotocol: Option<HeaderValue>,
    ) -> Result<WebSocketStream<Socket>, Refusal> {
        let socket = self.egress.connect(&self.uri, Provenance::Registered).await;
        let socket = socket.map_err(|error| Refusal::Other(CallFailure::Unreachable(error)))?;
        let request = self.request(subprotocol)?;
        // Its buffers are big.
        let upgrading = tokio_tungstenite::client_async_with_config;
        let upgraded = Box::pin(upgrading(request, socket, Some(config(message_max)))).await;
        upgraded.map(|(stream, _)| stream).map_err(Refusal::from)
    }

    fn request(&self, subprotocol: Option<HeaderValue>) -> Result<Request<()>, Refusal> {
        let problem =
            |_| Refusal::Other(CallFailure::Initialize("its URL is not valid".to_owned()));
        let host = self.uri.authority().map(Authority::as_str).unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(problem)?;
        let key = HeaderValue::from_str(&generate_key()).map_err(problem)?;
        let mut request = Request::new(());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.secrets);
        headers.insert(header::HOST, host);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        headers.insert(header::USER_AGENT, fetch::USER_AGENT);
        if let Some(subprotocol) = subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        Ok(request)
    }
}

fn config(message_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_SIZE)
        .write_buffer_size(0)
        .max_message_size(Some(message_max))
        .max_frame_size(Some(message_max))
}

/// Why there is no socket.
enum Refusal {
    /// The server does not want to speak of `mcp`.
    NoSubprotocol,
    Other(CallFailure),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(match error {
            Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
                SubProtocolError::NoSubProtocol,
            )) => return Self::NoSubprotocol,
            Error::Http(response) => match response.status().as_u16() {
                status @ (401 | 403) => CallFailure::Auth { status },
                status => {
                    let body = response.into_body().unwrap_or_default();
                    CallFailure::HttpStatus { status, excerpt: fetch::excerpt(&body) }
                }
            },
            error => CallFailure::Broken(egress::chain(&error)),
        })
    }
}

/// Hears messages until the socket ends.
async fn read(
    mut source: Source,
    connection: Arc<Connection>,
    heard: Arc<AtomicBool>,
    limit: usize,
) {
    let failure = loop {
        // One who never stops talking leaves room for others.
        consume_budget().await;
        let frame = source.next().await;
        heard.store(true, Ordering::Relaxed);
        match frame {
            Some(Ok(Message::Text(text))) => connection.line(text.into()),
            Some(Ok(Message::Binary(bytes))) => connection.line(bytes),
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => (),
            Some(Ok(Message::Close(frame))) => {
                let why = frame.map(|frame| frame.to_string()).unwrap_or_default();
                break CallFailure::Broken(format!("it closed the connection {why}"));
            }
            Some(Err(Error::Capacity(_))) => break CallFailure::TooLarge { limit },
            Some(Err(error)) => break CallFailure::Broken(egress::chain(&error)),
            None => break CallFailure::Broken("it ended the connection".to_owned()),
        }
    };
    connection.end(failure);
}

/// Sends messages and pings until told to stop, then says goodbye.
async fn write(
    mut sink: Sink,
    mut input: mpsc::Receiver<Bytes>,
    connection: Arc<Connection>,
    (heard, stop): (Arc<AtomicBool>, CancellationToken),
) {
    let mut ping_at = Instant::now() + PING_INTERVAL;
    loop {
        let message = tokio::select! {
            message = input.recv() => match message.map(Utf8Bytes::try_from) {
                Some(Ok(text)) => Message::Text(text),
                // What we send is always text.
                Some(Err(_)) => continue,
                None => break,
            },
            () = tokio::time::sleep_until(ping_at) => {
                ping_at = Instant::now() + PING_INTERVAL;
                if !heard.swap(false, Ordering::Relaxed) {
                    connection.end(CallFailure::Silent(PING_INTERVAL));
                    break;
                }
                Message::Ping(Bytes::new())
            }
            () = stop.cancelled() => break,
        };
        let sent = tokio::select! {
            sent = tokio::time::timeout(SEND_TIMEOUT, sink.send(message)) => sent,
            () = stop.cancelled() => break,
        };
        match sent {
            Ok(Ok(())) => (),
            Ok(Err(error)) => {
                connection.end(CallFailure::Broken(egress::chain(&error)));
                break;
            }
            Err(_) => {
                connection.end(CallFailure::Broken("it does not read any more".to_owned()));
                break;
            }
        }
    }
    tokio::time::timeout(CLOSE_TIMEOUT, sink.send(Message::Close(None))).await.ok();
    stop.cancel();
}

#[cfg(test)]
mod tests;
