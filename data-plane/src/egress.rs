//! The one door out: resolve a name, judge its addresses, connect to a judged one.
//!
//! Nothing else in the proxy opens a connection to an upstream. Redirects are
//! not followed by anyone, so every address is judged.

mod address;
mod home;
mod origin;
mod outgoing;

use std::{
    error::Error as StdError,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioIo, TokioTimer},
};
use proto::upstream::FailureReason;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tower::Service;

use self::home::Home;
pub(crate) use self::origin::{Origin, OriginBody, SendError};

/// How long resolving, connecting and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address of several may take.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// When a silent connection is probed, how often then, and how many probes may be lost.
const PROBE_IDLE: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Who chose an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Someone with `upstreams.create`: private addresses are fine, loopback too.
    Registered,
    /// An upstream, a client or a document: public addresses only.
    FromDocument,
}

/// Where the way out ended.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("the name `{host}` was not found: {source}")]
    Dns { host: String, source: io::Error },
    #[error("`{host}` is at {address}, {rule}")]
    Refused { host: String, address: IpAddr, rule: &'static str },
    #[error("no connection to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to `{host}` within {after:?}")]
    Timeout { host: String, after: Duration },
    #[error("TLS with `{host}` failed: {reason}")]
    Tls { host: String, reason: String },
    #[error("`{0}` has no host")]
    NoHost(String),
}

impl EgressError {
    /// The reason that is shown for an upstream behind this failure.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Dns { .. } | Self::NoHost(_) => FailureReason::Dns,
            Self::Refused { .. } => FailureReason::Egress,
            Self::Connect { .. } | Self::Timeout { .. } => FailureReason::Connect,
            Self::Tls { .. } => FailureReason::Tls,
        }
    }

    /// What those are told who need not know where upstreams are.
    pub(crate) fn for_caller(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "its name was not found",
            Self::Refused { .. } => "it is at an address that may not be called",
            Self::Connect { .. } => "no connection",
            Self::Timeout { .. } => "no connection in time",
            Self::Tls { .. } => "TLS failed",
            Self::NoHost(_) => "its URL has no host",
        }
    }
}

/// A pooled client whose connections went through the door.
pub(crate) type HttpClient = Client<Connector, Full<Bytes>>;

/// A connection of its own that went through the door, for other things than HTTP.
pub(crate) type Socket = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// The door. Cheap to clone: TLS configuration and home are shared.
#[derive(Clone, Debug)]
pub struct Egress {
    tls: Arc<rustls::ClientConfig>,
    home: Home,
}

impl Egress {
    /// A door that trusts the web's certificate authorities.
    pub fn new() -> Self {
        use hyper_rustls::ConfigBuilderExt as _;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        match tls {
            Ok(builder) => {
                let tls = Arc::new(builder.with_webpki_roots().with_no_client_auth());
                Self { tls, home: Home::default() }
            }
            Err(error) => unreachable!("ring supports TLS 1.2 and 1.3: {error}"),
        }
    }

    /// Where connections live.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// One pooled client, for any origin.
    pub(crate) fn client(&self, provenance: Provenance) -> HttpClient {
        Client::builder(self.home.clone())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(256)
            .build(self.connector(provenance))
    }

    /// The connections to the origin of `uri`, for one upstream.
    pub(crate) fn origin(&self, uri: &Uri, provenance: Provenance) -> Arc<Origin> {
        Origin::new(self.connector(provenance), uri)
    }

    fn connector(&self, provenance: Provenance) -> Connector {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config((*self.tls).clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Tcp { provenance, noticed: Arc::default() });
        Connector { https, home: self.home.clone() }
    }

    /// One connection to a `ws` or `wss` URL.
    pub(crate) async fn connect(
        &self,
        uri: &Uri,
        provenance: Provenance,
    ) -> Result<Socket, Arc<EgressError>> {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config((*self.tls).clone())
            .https_or_http()
            // A socket begins as a request of HTTP/1.1.
            .enable_http1()
            .wrap_connector(Tcp { provenance, noticed: Arc::default() });
        let uri = as_http(uri).ok_or_else(|| EgressError::NoHost(uri.to_string()))?;
        let home = self.home.clone();
        match (Connector { https, home }).call(uri).await {
            Ok(stream) => Ok(TokioIo::new(stream)),
            Err(error) => Err(match error.downcast::<Stopped>() {
                Ok(stopped) => stopped.0,
                // The connector gives nothing else.
                Err(error) => {
                    Arc::new(EgressError::Tls { host: String::new(), reason: chain(&*error) })
                }
            }),
        }
    }
}

/// The URL of the request that a socket begins with.
fn as_http(uri: &Uri) -> Option<Uri> {
    let scheme = if uri.scheme_str() == Some("wss") { "https" } else { "http" };
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme.parse().ok()?);
    Uri::from_parts(parts).ok()
}

impl Default for Egress {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds the door's own error inside what hyper says.
pub(crate) fn cause_of(error: &legacy::Error) -> Option<&Arc<EgressError>> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Stopped(found)) = inner.downcast_ref::<Stopped>() {
            return Some(found);
        }
        source = inner.source();
    }
    None
}

/// An [`EgressError`] on its way through hyper, which takes only boxed errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(Arc<EgressError>);

/// TCP and TLS under one time limit.
#[derive(Clone)]
pub(crate) struct Connector {
    https: HttpsConnector<Tcp>,
    home: Home,
}

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Connecting<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.https.call(uri);
        // A socket belongs to the runtime on which it was opened.
        let home = self.home.handle();
        let connecting = async move {
            let stopped = |error: EgressError| -> Self::Error { Stopped(Arc::new(error)).into() };
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) if error.is::<Stopped>() => Err(error),
                Ok(Err(error)) => Err(stopped(EgressError::Tls { host, reason: chain(&*error) })),
                Err(_) => Err(stopped(EgressError::Timeout { host, after: CONNECT_TIMEOUT })),
            }
        };
        let opened = AbortOnDropHandle::new(home.spawn(connecting));
        Box::pin(async move { opened.await? })
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

#[derive(Clone)]
struct Tcp {
    provenance: Provenance,
    /// Whether the log already says that this client reaches loopback.
    noticed: Arc<AtomicBool>,
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = Stopped;
    type Future = Connecting<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.clone();
        Box::pin(async move { tcp.connect(&uri).await.map_err(|error| Stopped(Arc::new(error))) })
    }
}

impl Tcp {
    async fn connect(&self, uri: &Uri) -> Result<TokioIo<TcpStream>, EgressError> {
        let host = uri.host().ok_or_else(|| EgressError::NoHost(uri.to_string()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let dns = |source| EgressError::Dns { host: host.to_owned(), source };
        let mut failure = None;
        let found = tokio::net::lookup_host((host, port)).await.map_err(dns)?;
        let mut addresses = found.collect::<Vec<_>>().into_iter();
        while let Some(address) = addresses.next() {
            if let Some(rule) = address::refusal(address.ip(), self.provenance) {
                let address = address.ip();
                failure =
                    failure.or(Some(EgressError::Refused { host: host.to_owned(), address, rule }));
                continue;
            }
            // One that swallows what it is sent leaves time for the others.
            let patience = if addresses.len() > 0 { ADDRESS_TIMEOUT } else { CONNECT_TIMEOUT };
            let connecting = tokio::time::timeout(patience, TcpStream::connect(address)).await;
            match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return self.ready(stream, host, address),
                Err(source) => failure = Some(EgressError::Connect { address, source }),
            }
        }
        Err(failure.unwrap_or_else(|| dns(io::Error::other("it has no addresses"))))
    }

    fn ready(
        &self,
        stream: TcpStream,
        host: &str,
        address: SocketAddr,
    ) -> Result<TokioIo<TcpStream>, EgressError> {
        if address.ip().is_loopback() && !self.noticed.swap(true, Ordering::Relaxed) {
            tracing::info!(target: "egress", host, %address, "an upstream is on loopback");
        }
        prepare(&stream).map_err(|source| EgressError::Connect { address, source })?;
        Ok(TokioIo::new(stream))
    }
}

/// Sends at once, and notices within a minute that the other end is gone, also where nothing is
/// sent or what is sent is not received (a firewall that forgot the connection).
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_IDLE).with_interval(PROBE_INTERVAL);
    socket.set_tcp_keepalive(&probes.with_retries(PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(PROBE_IDLE + PROBE_INTERVAL * PROBES))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failure_of(url: &str, provenance: Provenance) -> FailureReason {
        let client = Egress::new().client(provenance);
        let error = client.get(url.parse().unwrap()).await.unwrap_err();
        cause_of(&error).unwrap_or_else(|| panic!("{error:?}")).reason()
    }

    #[tokio::test]
    async fn failures_on_the_way_out_are_told_apart() {
        let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = plain.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = plain.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 no TLS here\r\n\r\n").await.unwrap();
        });
        let registered = Provenance::Registered;
        let tls = failure_of(&format!("https://127.0.0.1:{port}/"), registered).await;
        assert_eq!(tls, FailureReason::Tls);
        server.await.unwrap();
        let closed = failure_of(&format!("http://127.0.0.1:{port}/"), registered).await;
        assert_eq!(closed, FailureReason::Connect);
        let nowhere = failure_of("http://no-such-host.invalid/", registered).await;
        assert_eq!(nowhere, FailureReason::Dns);
        let document = failure_of("http://127.0.0.1:1/", Provenance::FromDocument).await;
        assert_eq!(document, FailureReason::Egress);
    }
}
