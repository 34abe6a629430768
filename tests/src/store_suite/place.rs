//! An empty database, and control planes that share it.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use control_plane::{
    Config, ControlPlane, StartError,
    caller::Caller,
    clock::{Clock, ManualClock},
    error::Error,
    registry::{Registry, WriteOptions},
    seal::Sealer,
    store::{
        Store, StoreConfig, StoreError,
        changes::{ChangedKey, changes_since},
        configuration::{Configuration, read_all},
    },
};
use proto::{
    Catalog, CatalogEntry, CatalogTool, CredentialChange, EntryKind, Era, Invalid, RestBinding,
    RestMethod, Secret,
    tool::ToolDraft,
    upstream::{CatalogScope, Transport, UpstreamDraft},
    virtual_server::{Naming, VirtualServerDraft},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::postgres::Postgres;

/// An empty database.
pub struct Place {
    config: StoreConfig,
    url: String,
    folder: TempDir,
}

/// One control plane's view of it.
pub struct House {
    pub store: Store,
    pub registry: Registry,
    pub clock: Arc<ManualClock>,
    pub sealer: Arc<Sealer>,
    pub admin: Caller,
}

impl Place {
    pub fn sqlite() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = StoreConfig { database_url: None, data_dir: folder.path().to_owned() };
        let url = format!("sqlite://{}", folder.path().join("lockgate.db").display());
        Ok(Self { config, url, folder })
    }

    pub async fn postgres() -> anyhow::Result<Self> {
        let url = Postgres::shared()?.database().await?;
        let folder = tempfile::tempdir()?;
        let database_url = Some(Secret::new(url.clone()));
        let config = StoreConfig { database_url, data_dir: folder.path().to_owned() };
        Ok(Self { config, url, folder })
    }

    /// Starts a control plane here.
    pub async fn open(&self) -> Result<House, StoreError> {
        let store = Store::open(&self.config).await?;
        let clock = Arc::new(ManualClock::at(1_000_000));
        let sealer = Arc::new(Sealer::new(&Secret::new([7; 32])));
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let registry = Registry::new(store.clone(), Arc::clone(&sealer), time);
        let admin = Caller::local_admin("ada");
        Ok(House { store, registry, clock, sealer, admin })
    }

    /// Starts a whole control plane here, with its keys in the folder.
    pub async fn start(&self, clock: &Arc<ManualClock>) -> Result<ControlPlane, StartError> {
        let mut config = Config::new(self.folder.path());
        config.database_url.clone_from(&self.config.database_url);
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        ControlPlane::start_with_clock(config, time).await
    }

    /// What the control plane calls this kind of database.
    pub fn dialect(&self) -> &'static str {
        if self.config.database_url.is_some() { "postgres" } else { "sqlite" }
    }

    /// Changes the database behind everybody's back.
    pub async fn tamper(&self, sql: &str) -> anyhow::Result<()> {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await?;
        connection.execute(AssertSqlSafe(sql.to_owned())).await.context("tampering")?;
        connection.close().await?;
        Ok(())
    }

    /// Where files of the database would be.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl House {
    pub async fn revision(&self) -> anyhow::Result<u64> {
        Ok(self.store.begin_read().await?.revision().await?)
    }

    /// What changed after a revision, as `kind owner name`.
    pub async fn changes(&self, since: u64) -> anyhow::Result<Option<Vec<ChangedKey>>> {
        Ok(changes_since(&mut self.store.begin_read().await?, since).await?)
    }

    pub async fn configuration(&self) -> anyhow::Result<Configuration> {
        Ok(read_all(&mut self.store.begin_read().await?, &self.sealer).await?)
    }

    /// Creates a tool that asks `http://127.0.0.1:1/`.
    pub async fn tool(&self, name: &str) -> Result<proto::tool::Tool, Error> {
        let draft = tool(name)?;
        self.registry.create_tool(&self.admin, draft, WriteOptions::default()).await
    }

    pub async fn upstream(&self, name: &str) -> Result<proto::upstream::Upstream, Error> {
        let draft = upstream(name)?;
        self.registry.create_upstream(&self.admin, draft, WriteOptions::default()).await
    }

    /// Records a catalog under the newest wish.
    pub async fn discover(&self, upstream_id: &str, tools: &[&str]) -> anyhow::Result<()> {
        let wanted = self.registry.wanted_discoveries().await?;
        let wanted = wanted.iter().find(|it| it.upstream_id == upstream_id).context("no wish")?;
        Ok(self.registry.record_catalog(upstream_id, wanted.wanted, Ok(catalog(tools))).await?)
    }

    /// Records a catalog without tools, under a new wish.
    pub async fn offer(&self, upstream_id: &str, entries: Vec<CatalogEntry>) -> anyhow::Result<()> {
        self.registry.want_discovery(upstream_id).await?;
        let wanted = self.registry.wanted_discoveries().await?;
        let wanted = wanted.iter().find(|it| it.upstream_id == upstream_id).context("no wish")?;
        let catalog = Catalog { entries, ..catalog(&[]) };
        Ok(self.registry.record_catalog(upstream_id, wanted.wanted, Ok(catalog)).await?)
    }

    /// Names of all tools, sorted.
    pub async fn tool_names(&self) -> anyhow::Result<Vec<String>> {
        let listed =
            self.registry.list_tools(&self.admin, None, control_plane::registry::Page::default());
        let mut names: Vec<_> =
            listed.await?.items.into_iter().map(|it| it.name.to_string()).collect();
        names.sort();
        Ok(names)
    }
}

pub(super) fn tool(name: &str) -> Result<ToolDraft, Invalid> {
    Ok(ToolDraft {
        name: name.parse()?,
        title: String::new(),
        description: "asks".to_owned(),
        input_schema: r#"{"type":"object"}"#.to_owned(),
        output_schema: String::new(),
        annotations: String::new(),
        rest: RestBinding {
            url: "http://127.0.0.1:1/".to_owned(),
            method: RestMethod::Post,
            headers: [].into(),
        },
        credential: CredentialChange::Keep,
        disabled: false,
        tags: Vec::new(),
    })
}

pub(super) fn upstream(name: &str) -> Result<UpstreamDraft, Invalid> {
    let url = proto::upstream::parse_url("url", "http://127.0.0.1:3001/mcp")?;
    Ok(UpstreamDraft {
        name: name.parse()?,
        title: String::new(),
        description: String::new(),
        transport: Transport::Http { url },
        credential: CredentialChange::Keep,
        catalog_scope: CatalogScope::Shared,
        disabled: false,
        tags: Vec::new(),
    })
}

pub(super) fn server(
    name: &str,
    upstreams: &[&str],
    tools: &[&str],
) -> Result<VirtualServerDraft, Invalid> {
    Ok(VirtualServerDraft {
        name: name.parse()?,
        title: String::new(),
        description: String::new(),
        upstreams: upstreams.iter().map(|it| (*it).to_owned()).collect(),
        tools: tools.iter().map(|it| (*it).to_owned()).collect(),
        prompts: Vec::new(),
        resources: Vec::new(),
        naming: Naming::Prefix,
        icon: String::new(),
        disabled: false,
        tags: Vec::new(),
    })
}

pub(super) fn entry(kind: EntryKind, original: &str) -> CatalogEntry {
    CatalogEntry {
        kind,
        original: original.to_owned(),
        definition: format!(r#"{{"{}":"{original}"}}"#, kind.key_member()),
        needs_client_capabilities: Vec::new(),
    }
}

pub(super) fn catalog(tools: &[&str]) -> Catalog {
    Catalog {
        era: Era::Legacy,
        protocol_version: "2025-11-25".to_owned(),
        server_info: "{}".to_owned(),
        capabilities: "{}".to_owned(),
        instructions: String::new(),
        tools: tools
            .iter()
            .map(|name| CatalogTool {
                name: (*name).to_owned(),
                definition: format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#),
                needs_client_capabilities: Vec::new(),
            })
            .collect(),
        entries: Vec::new(),
    }
}
