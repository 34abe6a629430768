//! The running system: version, status, proxies.

use std::sync::Arc;

use proto::{Permission, proxy::Proxy, wire};

use crate::{
    caller::Caller,
    clock::Clock,
    error::Error,
    fleet::Fleet,
    store::{
        self, Store, StoreError,
        counts::{self, Counts},
    },
};

/// MCP versions that proxies of this version serve, oldest first.
pub const PROTOCOL_VERSIONS: [&str; 4] = ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// The operations use cases. Cloning shares them.
#[derive(Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    fleet: Fleet,
    start_time_ms: i64,
}

/// How the system is.
#[derive(Clone, Debug)]
pub struct Status {
    pub start_time_ms: i64,
    /// Now, by the control plane's clock.
    pub time_ms: i64,
    pub store_epoch: String,
    pub database: &'static str,
    /// None: the database does not answer.
    pub stock: Option<Stock>,
}

/// What the database says.
#[derive(Clone, Debug)]
pub struct Stock {
    pub counts: Counts,
    pub proxies_connected: u32,
    /// The database's own version.
    pub database_version: String,
}

/// One page of proxies.
#[derive(Clone, Debug)]
pub struct ListedProxies {
    pub proxies: Vec<Proxy>,
    pub next_page_token: String,
    pub revision: u64,
}

impl Operations {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, fleet: Fleet) -> Self {
        let start_time_ms = clock.now_ms();
        Self { inner: Arc::new(Inner { store, clock, fleet, start_time_ms }) }
    }

    pub fn version(&self, caller: &Caller) -> Result<wire::Version, Error> {
        caller.require(Permission::SelfService)?;
        Ok(wire::Version {
            version: VERSION.to_owned(),
            protocol_versions: PROTOCOL_VERSIONS.map(str::to_owned).to_vec(),
        })
    }

    pub async fn status(&self, caller: &Caller) -> Result<Status, Error> {
        caller.require(Permission::OperationsRead)?;
        let Inner { store, clock, fleet, start_time_ms } = &*self.inner;
        let stock = match stock(store, fleet).await {
            Ok(stock) => Some(stock),
            Err(error) => {
                tracing::warn!(%error, "the database does not answer");
                None
            }
        };
        Ok(Status {
            start_time_ms: *start_time_ms,
            time_ms: clock.now_ms(),
            store_epoch: store.epoch().to_owned(),
            database: store.dialect(),
            stock,
        })
    }

    /// Whether requests can be served: the database answers.
    pub async fn is_ready(&self) -> bool {
        match self.inner.store.begin_read().await {
            Ok(mut read) => read.revision().await.is_ok(),
            Err(_) => false,
        }
    }

    /// Proxies by id.
    pub async fn list_proxies(
        &self,
        caller: &Caller,
        size: u32,
        page_token: &str,
    ) -> Result<ListedProxies, Error> {
        caller.require(Permission::OperationsRead)?;
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) };
        let kept = usize::try_from(size).unwrap_or(usize::MAX);
        let mut read = self.inner.store.begin_read().await?;
        let mut proxies = self.inner.fleet.list().await?;
        proxies.retain(|proxy| proxy.id.as_str() > page_token);
        let more = proxies.len() > kept;
        proxies.truncate(kept);
        let last = proxies.last().filter(|_| more);
        let next_page_token = last.map(|proxy| proxy.id.clone()).unwrap_or_default();
        Ok(ListedProxies { proxies, next_page_token, revision: read.revision().await? })
    }
}

async fn stock(store: &Store, fleet: &Fleet) -> Result<Stock, StoreError> {
    let mut read = store.begin_read().await?;
    let counts = counts::read(&mut read).await?;
    let database_version = store::operations::version(&mut read, store.dialect()).await?;
    drop(read);
    let connected = fleet.list().await?.into_iter().filter(|proxy| proxy.connected).count();
    let proxies_connected = u32::try_from(connected).unwrap_or(u32::MAX);
    Ok(Stock { counts, proxies_connected, database_version })
}

impl From<Status> for wire::Status {
    fn from(status: Status) -> Self {
        let Status { start_time_ms, time_ms: _, store_epoch, database, stock } = status;
        let known = Self {
            version: VERSION.to_owned(),
            start_time_ms,
            store_epoch,
            database: database.to_owned(),
            ..Self::default()
        };
        let Some(Stock { counts, proxies_connected, database_version: _ }) = stock else {
            return known;
        };
        let Counts { upstreams, ready_upstreams, tools, virtual_servers, revision } = counts;
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            database_reachable: true,
            revision,
            upstreams: count(upstreams),
            upstreams_ready: count(ready_upstreams),
            tools: count(tools),
            virtual_servers: count(virtual_servers),
            proxies_connected,
            ..known
        }
    }
}
