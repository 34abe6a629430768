//! The way to the control plane: the local socket or an address, with retries that are safe.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use proto::{
    Secret,
    wire::{
        identity_client::IdentityClient, operations_client::OperationsClient,
        registry_client::RegistryClient,
    },
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    args::Global,
    config::{self, Environment},
    failure::{Exit, Failure},
};

/// Longest wait for one answer of the control plane.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unreachable control plane is tried again; a restart takes less.
const RETRY_FOR: Duration = Duration::from_secs(5);
/// Answers hold catalogs: large schemas are normal.
const MESSAGE_MAX: usize = 64 << 20;

type Authenticated = InterceptedService<Channel, Bearer>;

/// A control plane to talk to.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Authenticated,
    deadline: Deadline,
}

/// Adds the token, if there is one.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// When the whole command gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    pub(crate) fn limit(self) -> Duration {
        self.limit
    }
}

impl Client {
    /// Connects where the arguments, else the environment, else the data directory point.
    pub(crate) async fn connect(
        global: &Global,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let remote = config::remote(global, environment)?;
        let channel = match &remote.address {
            Some(address) => connect_address(address).await?,
            None => connect_socket(&config::data_dir(global, environment)?).await?,
        };
        let bearer = Bearer(remote.token.as_ref().map(bearer).transpose()?);
        let deadline = Deadline::after(Duration::from_secs(global.timeout.unwrap_or(60)));
        Ok(Self { channel: InterceptedService::new(channel, bearer), deadline })
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn registry(&self) -> RegistryClient<Authenticated> {
        RegistryClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn identity(&self) -> IdentityClient<Authenticated> {
        IdentityClient::new(self.channel.clone())
    }

    pub(crate) fn operations(&self) -> OperationsClient<Authenticated> {
        OperationsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }
}

/// Calls until there is an answer. Only for reads, and for writes with a `request_id`,
/// which the control plane runs once however often it gets them.
pub(crate) async fn retrying<T, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let deadline = Deadline::after(RETRY_FOR);
    let mut pause = Duration::from_millis(50);
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if status.code() == Code::Unavailable && !deadline.is_over() => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(status) => return Err(Failure::from(status)),
        }
    }
}

/// One per invocation: what is sent twice is done once.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn bearer(token: &Secret<String>) -> Result<MetadataValue<Ascii>, Failure> {
    let token = token.expose().trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    let mut value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Failure::usage("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn connect_socket(data_dir: &Path) -> Result<Channel, Failure> {
    let path = data_dir.join("control.sock");
    // Tried once for the clear error; the channel connects for itself.
    UnixStream::connect(&path).await.map_err(|error| nothing_runs(data_dir, &error))?;
    let connector = tower::service_fn(move |_| connect_stream(path.clone()));
    // The name is never resolved; it only fills the `:authority` of requests.
    Endpoint::from_static("http://localhost")
        .timeout(CALL_TIMEOUT)
        .connect_with_connector(connector)
        .await
        .map_err(|error| Failure::unavailable(format!("control socket: {}", chain(&error))))
}

async fn connect_stream(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}

fn nothing_runs(data_dir: &Path, error: &std::io::Error) -> Failure {
    let place = data_dir.display();
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("`{place}` belongs to somebody else: {error}");
        return Failure::new(Exit::Permission, "permission_denied", message)
            .hint("run as that user, or use --address with a token");
    }
    Failure::unavailable(format!("no Lockgate runs on the data directory `{place}`")).hint(format!(
        "start it with `lockgate up --data-dir {place}`, or name another with --data-dir or --address"
    ))
}

async fn connect_address(address: &str) -> Result<Channel, Failure> {
    let text =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(text.clone())
        .map_err(|_| Failure::usage(format!("--address: `{address}` is not a URL")))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(CALL_TIMEOUT);
    let connected = if text.starts_with("https://") {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_only()
            .enable_http2()
            .build();
        endpoint.connect_with_connector(connector).await
    } else {
        endpoint.connect().await
    };
    connected.map_err(|error| {
        Failure::unavailable(format!("no control plane answers at {text}: {}", chain(&error)))
    })
}

/// The innermost reason; the outer ones only say "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_data_directory_where_nothing_runs_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let global = Global { data_dir: Some(directory.path().to_path_buf()), ..Global::default() };
        let connected = Client::connect(&global, &Environment::default()).await;
        let failure = connected.err().unwrap();
        assert_eq!(failure.exit, Exit::Unavailable);
        let text = failure.to_string().replace(directory.path().to_str().unwrap(), "DIR");
        insta::assert_snapshot!(text, @r"
        no Lockgate runs on the data directory `DIR`
        hint: start it with `lockgate up --data-dir DIR`, or name another with --data-dir or --address
        ");
    }

    #[test]
    fn a_token_is_taken_with_and_without_its_scheme() {
        for text in ["lg_x", "Bearer lg_x", " lg_x\n"] {
            assert_eq!(bearer(&text.into()).unwrap(), "Bearer lg_x");
        }
        assert!(bearer(&"a\nb".into()).is_err());
    }
}
