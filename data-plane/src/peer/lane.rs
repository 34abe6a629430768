//! The way to one other proxy: one HTTP/2 connection, made on first use and again when it broke.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::herald::Herald;

/// How long a proxy may take to accept us before it counts as dead.
const CONNECT: Duration = Duration::from_secs(1);
/// How often an open connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(5);
/// The first and the longest time for which a dead proxy is left alone.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// What one answer may have in flight, and all of them: an answer that nobody reads must not
/// hold up the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 32 << 20;

type Sender = http2::SendRequest<Full<Bytes>>;

/// A proxy, and the connection to it.
pub(crate) struct Lane {
    address: String,
    name: ServerName<'static>,
    sender: Mutex<Option<Sender>>,
    /// Held while a connection is made, so that one is made at a time.
    health: tokio::sync::Mutex<Health>,
    herald: Herald,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    /// Dead until then.
    retry_at: Option<Instant>,
}

/// What became of a request.
pub(crate) enum Sent {
    Answered(Response<Incoming>),
    /// Not a byte of it has left: it may be served elsewhere.
    Unsent,
    /// The other side may have received it: it must not be served again.
    Lost(hyper::Error),
}

impl Lane {
    /// A lane to the proxy that has a certificate for `name`. Nothing is connected yet.
    pub(crate) fn new(address: String, name: ServerName<'static>) -> Self {
        let (sender, health) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { address, name, sender, health, herald: Herald::default() }
    }

    /// What the proxy is still to be told.
    pub(super) fn herald(&self) -> &Herald {
        &self.herald
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request; the answer's body comes as it is made.
    pub(crate) async fn send(
        &self,
        tls: &Arc<ClientConfig>,
        mut request: Request<Full<Bytes>>,
    ) -> Sent {
        // The second try is for a connection that had ended when it was taken.
        for _ in 0..2 {
            let Some(mut sender) = self.connection(tls).await else { return Sent::Unsent };
            let mut failed = match sender.try_send_request(request).await {
                Ok(answer) => return Sent::Answered(answer),
                Err(failed) => failed,
            };
            let Some(unsent) = failed.take_message() else {
                return Sent::Lost(failed.into_error());
            };
            self.forget();
            request = unsent;
        }
        Sent::Unsent
    }

    /// Whether there is a connection, or one can be made.
    pub(crate) async fn is_open(&self, tls: &Arc<ClientConfig>) -> bool {
        self.connection(tls).await.is_some()
    }

    /// Ends the connection: what runs on it breaks.
    fn forget(&self) {
        self.sender.lock().take();
    }

    fn open(&self) -> Option<Sender> {
        self.sender.lock().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn connection(&self, tls: &Arc<ClientConfig>) -> Option<Sender> {
        if let Some(sender) = self.open() {
            return Some(sender);
        }
        let mut health = self.health.lock().await;
        if let Some(sender) = self.open() {
            return Some(sender);
        }
        if health.retry_at.is_some_and(|at| at > Instant::now()) {
            return None;
        }
        let made = timeout(CONNECT, self.connect(tls)).await;
        match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(sender) => {
                *health = Health::default();
                *self.sender.lock() = Some(sender.clone());
                Some(sender)
            }
            Err(error) => {
                let (first, longest) = REST;
                let rest = first.saturating_mul(1 << health.failures.min(8)).min(longest);
                health.failures = health.failures.saturating_add(1);
                health.retry_at = Some(Instant::now() + rest);
                tracing::warn!(%error, proxy = self.address, ?rest, "another proxy is unreachable");
                None
            }
        }
    }

    /// Connects, and waits until the other side has taken our certificate: in TLS 1.3 it may
    /// refuse it after the handshake has ended here.
    async fn connect(&self, tls: &Arc<ClientConfig>) -> io::Result<Sender> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(self.name.clone(), stream).await?;
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let address = self.address.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, proxy = address, "a connection between proxies has ended");
            }
        });
        let mut hello = Request::new(Full::default());
        *hello.uri_mut() = http::Uri::from_static("https://proxy/health");
        let answer = sender.send_request(hello).await.map_err(io::Error::other)?;
        if answer.status() != StatusCode::OK {
            return Err(io::Error::other(format!("refused with {}", answer.status())));
        }
        Ok(sender)
    }
}
