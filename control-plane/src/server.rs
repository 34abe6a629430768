//! Listeners of the control plane: accept, limit, drain.

use std::{
    future::Future,
    io::ErrorKind,
    net::TcpListener as StdListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    config::DataDir,
    keys::certificate::Certificate,
    tasks::{TaskEnded, Tasks},
};

/// How long a request head, and how long a TLS handshake, may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections of one listener at a time.
const CONNECTIONS_MAX: usize = 1024;
/// Longest path of a unix socket: `sun_path` less its NUL.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "the path `{}` is too long for a socket ({} bytes, at most {SOCKET_PATH_MAX}): \
         use a shorter data directory",
        path.display(), path.as_os_str().len()
    )]
    SocketPathTooLong { path: PathBuf },
    #[error("cannot open the socket `{}`", path.display())]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("cannot use a listener")]
    Listener(#[source] std::io::Error),
    #[error("cannot use the control plane's certificate")]
    Certificate(#[source] rustls::Error),
    #[error(transparent)]
    Task(#[from] TaskEnded),
}

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) tasks: Tasks,
    pub(crate) router: Router,
}

impl Server {
    /// Serves until `stop`, then lets requests end for a few seconds. An error
    /// if a background task ends before.
    pub(crate) async fn tcp(
        self,
        listeners: Vec<StdListener>,
        tls: Option<TlsAcceptor>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let token = self.tasks.stop().child_token();
        for listener in listeners {
            listener.set_nonblocking(true).map_err(ServeError::Listener)?;
            let listener = TcpListener::from_std(listener).map_err(ServeError::Listener)?;
            let door = Door::new(self.clone(), token.clone());
            let tls = tls.clone();
            self.tasks.detach(async move { door.tcp(listener, tls).await });
        }
        self.wait(token, stop).await
    }

    /// Serves the control socket until `stop`, and takes it away then.
    pub(crate) async fn socket(
        self,
        dir: &DataDir,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let path = dir.control_socket();
        let listener = bind_socket(dir, &path)?;
        let token = self.tasks.stop().child_token();
        let door = Door::new(self.clone(), token.clone());
        self.tasks.detach(async move { door.unix(listener).await });
        let ended = self.wait(token, stop).await;
        std::fs::remove_file(&path).ok();
        ended
    }

    async fn wait(
        &self,
        token: CancellationToken,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        tokio::select! {
            () = stop => (),
            () = token.cancelled() => (),
        }
        token.cancel();
        self.tasks.failure().map_or(Ok(()), |ended| Err(ended.into()))
    }
}

/// Binds inside the private key directory and moves the socket out when only
/// its owner can open it. The data directory is locked: an old one is stale.
fn bind_socket(dir: &DataDir, path: &Path) -> Result<UnixListener, ServeError> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(ServeError::SocketPathTooLong { path: path.to_owned() });
    }
    let bind = || -> std::io::Result<UnixListener> {
        let hidden = dir.keys().join("s");
        match std::fs::remove_file(&hidden) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => (),
        }
        let listener = UnixListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&hidden, path)?;
        Ok(listener)
    };
    bind().map_err(|source| ServeError::Socket { path: path.to_owned(), source })
}

/// The TLS of the sync port: our own certificate, HTTP/2 only.
pub(crate) fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor, ServeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let chain = vec![certificate.chain.clone()];
            builder.with_no_client_auth().with_single_cert(chain, certificate.key.clone_key())
        })
        .map_err(ServeError::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

/// One listener's way to the router.
struct Door {
    server: Server,
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

impl Door {
    fn new(server: Server, stop: CancellationToken) -> Self {
        Self { server, stop, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    async fn tcp(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        while let Some(accepted) = self.next(listener.accept()).await {
            let Some((stream, _)) = accepted else { continue };
            stream.set_nodelay(true).ok();
            match tls.clone() {
                None => self.admit(stream),
                Some(tls) => self.admit_tls(stream, tls),
            }
        }
    }

    async fn unix(self, listener: UnixListener) {
        while let Some(accepted) = self.next(listener.accept()).await {
            if let Some((stream, _)) = accepted {
                self.admit(stream);
            }
        }
    }

    /// The next connection; `Some(None)` if accepting failed for now, `None` at the stop.
    async fn next<T>(&self, accept: impl Future<Output = std::io::Result<T>>) -> Option<Option<T>> {
        let accepted = tokio::select! {
            () = self.stop.cancelled() => return None,
            accepted = accept => accepted,
        };
        match accepted {
            Ok(accepted) => Some(Some(accepted)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Usually out of descriptors: others have to end first.
                sleep(Duration::from_millis(100)).await;
                Some(None)
            }
        }
    }

    fn admit(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("too many connections: one is refused");
            return;
        };
        let (router, stop) = (self.server.router.clone(), self.stop.clone());
        self.server.tasks.detach(async move {
            serve_connection(stream, router, stop).await;
            drop(place);
        });
    }

    fn admit_tls(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tls: TlsAcceptor,
    ) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("too many connections: one is refused");
            return;
        };
        let (router, stop) = (self.server.router.clone(), self.stop.clone());
        self.server.tasks.detach(async move {
            match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve_connection(stream, router, stop).await,
                Ok(Err(error)) => tracing::info!(%error, "a TLS handshake failed"),
                Err(_) => tracing::info!("a TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

/// Serves HTTP/1.1 and HTTP/2 on one connection until its end or the stop.
pub(crate) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stop: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(256);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
