//! A control plane from its start to its end. It binds nothing by itself.

use std::{future::Future, net::TcpListener, sync::Arc};

use axum::{Router, middleware};
use proto::Secret;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{
    api::{
        self, authenticate,
        settle::{Settling, settled},
        sync::SyncApi,
    },
    changes::Changes,
    clock::{Clock, SystemClock},
    config::{Config, DataDir, Strictness},
    discovery::Discovery,
    fleet::Fleet,
    identity::{self, Identity, jwt::Jwt, password::Password},
    keys::{Keys, KeysError, certificate::Certificate, file::DirLock},
    operations::Operations,
    peers::{AuthorityError, Peers},
    registry::Registry,
    rest,
    server::{self, ServeError, Server},
    services::Services,
    snapshot::publish::Publisher,
    store::{Store, StoreConfig},
    tasks::{TaskEnded, Tasks},
    upkeep,
};

mod starting;

pub use starting::StartError;
use starting::lock;

/// Bytes in flight between the proxy in this process and its control plane.
const DUPLEX: usize = 256 * 1024;

/// A running control plane.
pub struct ControlPlane {
    services: Services,
    sync: SyncApi,
    settling: Settling,
    store: Store,
    dir: DataDir,
    certificate: Certificate,
    generated_password: Option<Secret<String>>,
    tasks: Tasks,
    _lock: DirLock,
}

impl ControlPlane {
    /// Locks the data directory, opens the store, settles the keys and starts
    /// the background tasks.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with_clock(config, Arc::new(SystemClock)).await
    }

    /// The same by another clock.
    pub async fn start_with_clock(
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let weak = config.weak_secrets();
        if config.strictness == Strictness::Strict && !weak.is_empty() {
            return Err(StartError::WeakSecrets { names: weak });
        }
        let dir = DataDir::new(&config.data_dir);
        let lock = lock(&dir)?;
        let keys = Keys::load(&config, &dir)?;
        let database = StoreConfig {
            database_url: config.database_url.clone(),
            data_dir: config.data_dir.clone(),
        };
        let store = Store::open(&database).await?;
        let tasks = Tasks::default();
        let identity = identity(&config, &keys, &store, &clock)?;
        identity.settle_keys(&keys.jwt_secret, &keys.admin_password).await?;
        let fleet = Fleet::new(store.clone(), Arc::clone(&clock), config.proxy_forget_after);
        let peers = peers(&config, &keys, &clock, (&store, &fleet)).await?;
        let sealer = Arc::new(keys.sealer.clone());
        let registry =
            Registry::new(store.clone(), sealer, Arc::clone(&clock)).with_stdio(config.stdio);
        let sync = SyncApi {
            identity: identity.clone(),
            publisher: Publisher::start(store.clone(), keys.sealer.clone(), config.stdio).await?,
            fleet: fleet.clone(),
            discovery: Discovery::new(
                store.clone(),
                registry.clone(),
                fleet.clone(),
                Arc::clone(&clock),
            ),
            peers: peers.clone(),
            tasks: tasks.clone(),
        };
        let services = Services {
            registry,
            operations: Operations::new(store.clone(), Arc::clone(&clock), fleet),
            identity,
            peers,
            tasks: tasks.clone(),
            app_name: config.app_name.as_str().into(),
            database_shown: store.dialect().into(),
        };
        let Keys { certificate, admin_password, password_is_new, .. } = keys;
        let generated_password = password_is_new.then_some(admin_password);
        let settling = Settling::new(&store, sync.fleet.clone());
        let control_plane = Self {
            services,
            sync,
            settling,
            store,
            dir,
            certificate,
            generated_password,
            tasks,
            _lock: lock,
        };
        control_plane.run_tasks(weak);
        Ok(control_plane)
    }

    fn run_tasks(&self, weak: Vec<&'static str>) {
        let stop = self.tasks.stop();
        let (identity, peers) = (self.services.identity.clone(), self.services.peers.clone());
        self.tasks.run("upkeep", upkeep::run(identity, peers, weak, stop.clone()));
        self.tasks.run("changes", Changes::new(self.store.clone()).run(stop.clone()));
        let SyncApi { publisher, fleet, discovery, .. } = self.sync.clone();
        self.tasks.run("publisher", publisher.run(stop.clone()));
        self.tasks.run("fleet", fleet.run(stop.clone()));
        self.tasks.run("discovery", discovery.run(stop));
    }

    /// gRPC and REST for administrators; callers prove themselves by headers.
    pub fn management(&self) -> Router {
        let identity = self.services.identity.clone();
        let by_headers = middleware::from_fn_with_state(identity, authenticate::by_headers);
        self.behind(by_headers)
    }

    /// The same for those who can open the control socket: all are administrators.
    pub fn local(&self) -> Router {
        let identity = self.services.identity.clone();
        let local = middleware::from_fn_with_state(identity, authenticate::as_local_admin);
        self.behind(local)
    }

    fn behind<L>(&self, door: L) -> Router
    where
        L: tower::Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
        L::Service: tower::Service<axum::extract::Request, Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as tower::Service<axum::extract::Request>>::Response:
            axum::response::IntoResponse + 'static,
        <L::Service as tower::Service<axum::extract::Request>>::Future: Send + 'static,
    {
        let services = self.services.clone();
        let settling = self.settling.clone();
        Router::new()
            .merge(api::routes(&services))
            .merge(rest::routes().with_state(services.clone()))
            .route_layer(middleware::from_fn_with_state(settling, settled))
            .route_layer(door)
            .merge(api::open_routes())
            .merge(rest::open_routes().with_state(services))
            .fallback(rest::not_found)
            .method_not_allowed_fallback(rest::method_not_allowed)
    }

    /// Enrolment, configuration and reports, for proxies that prove themselves.
    pub fn sync(&self) -> Router {
        let identity = self.services.identity.clone();
        let door = middleware::from_fn_with_state(identity, authenticate::as_proxy);
        api::sync::routes(self.sync.clone()).layer(door)
    }

    /// A channel for the proxy in this process, which is trusted. It connects on
    /// first use and again whenever it broke.
    pub fn local_channel(&self) -> Channel {
        let door = middleware::from_fn(authenticate::as_local_proxy);
        let router = api::sync::routes(self.sync.clone()).layer(door);
        let tasks = self.tasks.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let (router, tasks) = (router.clone(), tasks.clone());
            async move {
                let (near, far) = tokio::io::duplex(DUPLEX);
                let stop = tasks.stop();
                tasks.detach(server::serve_connection(far, router, stop));
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(near))
            }
        });
        Endpoint::from_static("http://control-plane").connect_with_connector_lazy(connector)
    }

    /// The administrator's password, if this start generated it.
    pub fn generated_admin_password(&self) -> Option<&Secret<String>> {
        self.generated_password.as_ref()
    }

    /// Serves [`ControlPlane::local`] on `DATA/control.sock` until `stop`.
    pub async fn serve_socket(
        &self,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        self.server(self.local()).socket(&self.dir, stop).await
    }

    /// Serves [`ControlPlane::management`] without TLS until `stop`.
    pub async fn serve_management(
        &self,
        listeners: Vec<TcpListener>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        self.server(self.management()).tcp(listeners, None, stop).await
    }

    /// Serves [`ControlPlane::sync`] behind our own certificate until `stop`.
    pub async fn serve_sync_tls(
        &self,
        listeners: Vec<TcpListener>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let tls = server::acceptor(&self.certificate)?;
        self.server(self.sync()).tcp(listeners, Some(tls), stop).await
    }

    fn server(&self, router: Router) -> Server {
        Server { tasks: self.tasks.clone(), router }
    }

    /// Cancelled when the control plane stops: because it was told to, or
    /// because a background task ended (see [`ControlPlane::failure`]).
    pub fn stopped(&self) -> CancellationToken {
        self.tasks.stop()
    }

    /// The background task that ended before its time, if one did.
    pub fn failure(&self) -> Option<TaskEnded> {
        self.tasks.failure()
    }

    /// Ends tasks and connections, then closes the database.
    pub async fn shutdown(self) {
        self.tasks.shutdown().await;
        self.store.close().await;
    }
}

async fn peers(
    config: &Config,
    keys: &Keys,
    clock: &Arc<dyn Clock>,
    (store, fleet): (&Store, &Fleet),
) -> Result<Peers, AuthorityError> {
    let parts = (fleet.clone(), &keys.sealer);
    Peers::start(store.clone(), Arc::clone(clock), parts, config.peer_certificate_lifetime).await
}

fn identity(
    config: &Config,
    keys: &Keys,
    store: &Store,
    clock: &Arc<dyn Clock>,
) -> Result<Identity, KeysError> {
    let jwt = Jwt::new(&keys.jwt_secret, &keys.signing, &config.admin_user)
        .map_err(|error| KeysError::Generate(error.to_string()))?;
    Ok(Identity::new(identity::Parts {
        store: store.clone(),
        clock: Arc::clone(clock),
        sealer: keys.sealer.clone(),
        jwt,
        password: Password::new(&config.admin_user, &keys.admin_password),
        fingerprint: keys.certificate.fingerprint(),
    }))
}

#[cfg(test)]
mod tests;
