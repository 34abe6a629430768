//! The way to the control plane: one connection, pinned to its certificate, joined once.

mod backoff;
mod pin;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use proto::{
    Invalid, Secret,
    token::JoinToken,
    wire::{self, sync_client::SyncClient},
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

pub(crate) use self::backoff::Backoff;
use crate::{
    config::Control,
    snapshot::{
        disk::DiskError,
        identity::{Enrolment, ProxyIdentity},
    },
};

/// Port of the control plane for proxies, where the address names none.
const PORT: u16 = 4447;
const CONNECT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("this proxy has not joined yet: start it with --join TOKEN")]
    NotJoined,
    #[error(transparent)]
    JoinToken(#[from] Invalid),
    #[error("the control plane refused the join token: {}", .0.message())]
    Refused(Status),
    #[error("cannot reach the control plane: {0}")]
    Unreachable(String),
    #[error("cannot keep the proxy's credential")]
    Disk(#[from] DiskError),
    #[error("cannot prepare TLS")]
    Tls(#[from] rustls::Error),
}

/// Where the control plane is, and what this proxy is to it. Cloning shares it.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    control: Control,
    identity: ProxyIdentity,
    addresses: Addresses,
    /// Where the credential is kept.
    directory: PathBuf,
    state: Mutex<State>,
}

/// Where this proxy is reached.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// By clients.
    pub advertise: String,
    /// By other proxies, `HOST:PORT`; empty: it takes no part among them.
    pub peer: String,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// The join token works once.
    token_spent: bool,
}

/// A channel, and the credential that calls on it carry.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    credential: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// A request that proves who sends it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(credential) = &self.credential {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        request
    }
}

impl Link {
    /// `directory` keeps the credential between starts.
    pub(crate) fn new(
        control: Control,
        identity: ProxyIdentity,
        addresses: Addresses,
        directory: PathBuf,
    ) -> Self {
        let state = Mutex::default();
        Self { inner: Arc::new(Inner { control, identity, addresses, directory, state }) }
    }

    pub(crate) fn identity(&self) -> &ProxyIdentity {
        &self.inner.identity
    }

    pub(crate) fn advertise_address(&self) -> &str {
        &self.inner.addresses.advertise
    }

    pub(crate) fn peer_address(&self) -> &str {
        &self.inner.addresses.peer
    }

    /// Where this proxy keeps what it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The connection; joins first if this proxy has not.
    pub(crate) async fn connection(&self) -> Result<Connection, LinkError> {
        let mut state = self.inner.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        let connection = match &self.inner.control {
            Control::InProcess(channel) => {
                Connection { channel: channel.clone(), credential: None }
            }
            Control::Remote { address, join_token } => {
                let enrolment = match Enrolment::load(&self.inner.directory)? {
                    Some(enrolment) => enrolment,
                    None => self.join(address, join_token.as_ref(), &mut state).await?,
                };
                let Enrolment { credential, fingerprint } = enrolment;
                let channel = channel(address, fingerprint)?;
                Connection { channel, credential: Some(bearer(&credential)?) }
            }
        };
        state.connection = Some(connection.clone());
        Ok(connection)
    }

    /// The control plane does not take the credential: joins anew if a token is left.
    pub(crate) async fn refused(&self, status: &Status) {
        let mut state = self.inner.state.lock().await;
        let Control::Remote { address, join_token: Some(token) } = &self.inner.control else {
            return;
        };
        if status.code() != Code::Unauthenticated || state.token_spent {
            return;
        }
        match self.join(address, Some(token), &mut state).await {
            Ok(_) => state.connection = None,
            Err(error) => tracing::error!(%error, "cannot join again"),
        }
    }

    async fn join(
        &self,
        address: &Uri,
        token: Option<&Secret<String>>,
        state: &mut State,
    ) -> Result<Enrolment, LinkError> {
        let token = token.filter(|_| !state.token_spent).ok_or(LinkError::NotJoined)?;
        let JoinToken { fingerprint, secret: _ } = JoinToken::parse(token.expose())?;
        let request = wire::EnrollRequest {
            join_token: token.expose().trim().to_owned(),
            proxy_id: self.inner.identity.id.clone(),
            advertise_address: self.inner.addresses.advertise.clone(),
        };
        let answer = SyncClient::new(channel(address, fingerprint)?).enroll(request).await;
        let answer = answer.map_err(|status| match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                LinkError::Unreachable(told(&status))
            }
            _ => {
                state.token_spent = true;
                LinkError::Refused(status)
            }
        })?;
        state.token_spent = true;
        let wire::EnrollResponse { credential } = answer.into_inner();
        let enrolment = Enrolment { credential: credential.into(), fingerprint };
        enrolment.save(&self.inner.directory)?;
        tracing::info!(proxy_id = self.inner.identity.id, "joined");
        Ok(enrolment)
    }
}

/// A status with the causes below it: "transport error" alone helps nobody.
pub(crate) fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

fn bearer(credential: &Secret<String>) -> Result<MetadataValue<Ascii>, LinkError> {
    let text = Secret::new(format!("Bearer {}", credential.expose()));
    let mut value: MetadataValue<Ascii> =
        text.expose().parse().map_err(|_| Invalid::new("credential", "is no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A channel to the sync port at `address` that connects on first use, and again whenever it broke.
/// It trusts the certificate with this SHA-256 alone.
pub fn channel(address: &Uri, fingerprint: [u8; 32]) -> Result<Channel, LinkError> {
    let host = address.host().ok_or_else(|| Invalid::new("control-plane", "must name a host"))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = address.port_u16().unwrap_or(PORT);
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Invalid::new("control-plane", "must name a host"))?;
    let tls = TlsConnector::from(Arc::new(pin::client_config(fingerprint)?));
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, host, name) = (tls.clone(), host.clone(), name.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Ok(Endpoint::from_static("http://control-plane")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}
