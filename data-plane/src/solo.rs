//! A proxy for one upstream, without a control plane: it shows what the upstream offers, under
//! the names that the upstream gives, and reads that itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ahash::AHashSet;
use proto::{
    Catalog, EntryKind, Position, Secret, UpstreamName,
    entry::EntryResource,
    proxy::FieldError,
    resource::{
        CredentialResource, Key, KeyResource, Resource, ToolResource, ToolTarget, UpstreamResource,
    },
    upstream::{CatalogScope, FailureReason, Transport},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Admission,
    discovery::discover,
    snapshot::{current::Current, table::Table},
    upstream::{News, Upstreams},
};

/// The upstream's id.
const ID: &str = "upstream";
/// The first look may have to wait for a download.
const FIRST_LOOK: Duration = Duration::from_mins(3);
/// Every later one.
const LOOK: Duration = Duration::from_mins(1);
/// News within this time lead to one look.
const COALESCED: Duration = Duration::from_millis(250);
/// The first and the longest wait after a look that failed.
const REST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// What a proxy without a control plane is told.
#[derive(Debug)]
pub struct Solo {
    /// For messages and the log.
    pub name: UpstreamName,
    pub transport: Transport,
    /// Headers for an upstream behind a URL.
    pub headers: BTreeMap<String, Secret<String>>,
    pub admission: Admission,
    pub entrances: Vec<Entrance>,
    pub answers: Answers,
    /// Hears once how the first look at the upstream went; until then clients are asked to wait.
    pub begun: oneshot::Sender<Result<(), NotBegun>>,
}

/// A path, and what clients speak there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    pub path: String,
    pub way: Way,
}

/// How clients come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    StreamableHttp,
    /// Streamable HTTP without sessions: each request stands alone.
    Stateless,
    /// HTTP+SSE: the stream.
    Events,
    /// HTTP+SSE: the client's messages.
    Messages,
}

/// How answers over Streamable HTTP look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// Event streams where there is more to say than the answer.
    #[default]
    AsFits,
    /// JSON for every client that takes it; what is said before the answer is lost.
    Json,
}

/// Why the upstream cannot be served.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotBegun {
    pub reason: FailureReason,
    pub message: String,
}

/// Reads what the upstream offers, now and whenever that changes, until `stop`.
pub(crate) async fn run(
    solo: Solo,
    (current, upstreams): (&Current, &Arc<Upstreams>),
    stop: &CancellationToken,
) {
    let Solo { name, transport, headers, admission, begun, entrances: _, answers: _ } = solo;
    let mut content = Content { name, transport, headers, admission, key: rand::random() };
    let work = async {
        let first = match content.first(current, upstreams).await {
            Ok(catalog) => catalog,
            // Nobody may want to know any more.
            Err(not_begun) => return drop(begun.send(Err(not_begun))),
        };
        begun.send(Ok(())).ok();
        content.follow(first, (current, upstreams)).await;
    };
    stop.run_until_cancelled(work).await;
}

/// All that the configuration is made of, besides the catalog.
struct Content {
    name: UpstreamName,
    transport: Transport,
    headers: BTreeMap<String, Secret<String>>,
    admission: Admission,
    /// Seals the ids of sessions, which end with this process.
    key: [u8; 32],
}

impl Content {
    /// Reads the catalog and makes it active.
    async fn first(
        &self,
        current: &Current,
        upstreams: &Arc<Upstreams>,
    ) -> Result<Catalog, NotBegun> {
        // Not active: an empty list would be a lie.
        let bare = Arc::new(self.table(None, 1)?);
        upstreams.reconcile(&bare);
        let catalog = discover(upstreams, &bare, ID, FIRST_LOOK).await;
        let catalog = catalog.map_err(|(reason, message)| NotBegun { reason, message })?;
        current.store(Arc::new(self.table(Some(&catalog), 2)?));
        Ok(catalog)
    }

    /// Looks again whenever the upstream's catalog may have changed.
    async fn follow(
        &mut self,
        mut last: Catalog,
        (current, upstreams): (&Current, &Arc<Upstreams>),
    ) {
        let (mut revision, mut rest) = (2, REST.0);
        let mut is_stale = false;
        loop {
            if !is_stale {
                until_stale(upstreams.news()).await;
            }
            tokio::time::sleep(COALESCED).await;
            drop(upstreams.news().take());
            let Some(table) = current.load() else { return };
            match discover(upstreams, &table, ID, LOOK).await {
                Ok(catalog) => {
                    (is_stale, rest) = (false, REST.0);
                    if catalog == last {
                        continue;
                    }
                    revision += 1;
                    match self.table(Some(&catalog), revision) {
                        Ok(table) => current.store(Arc::new(table)),
                        Err(not_begun) => tracing::warn!(%not_begun, "kept the old catalog"),
                    }
                    last = catalog;
                }
                Err((_, message)) => {
                    is_stale = true;
                    tracing::warn!(?rest, "{message}; the catalog stays as it was");
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(REST.1);
                }
            }
        }
    }

    fn table(&self, catalog: Option<&Catalog>, revision: u64) -> Result<Table, NotBegun> {
        let resources = self.resources(catalog);
        let position = Position { store_epoch: ID.to_owned(), revision, ..Position::default() };
        let mut table =
            Table::compile(resources.iter(), position).map_err(|errors| refused(&errors))?;
        table.admit(self.admission.clone());
        table.instruct(catalog.map_or("", |it| &it.instructions));
        Ok(table)
    }

    fn resources(&self, catalog: Option<&Catalog>) -> Vec<Resource> {
        let text = |field: fn(&Catalog) -> &String| catalog.map(field).cloned().unwrap_or_default();
        let has_secrets = !self.headers.is_empty();
        let mut resources = vec![
            Resource::Upstream(UpstreamResource {
                id: ID.to_owned(),
                name: self.name.clone(),
                transport: self.transport.clone(),
                credential_id: has_secrets.then(|| ID.to_owned()),
                catalog_scope: CatalogScope::Shared,
                era: catalog.map(|it| it.era),
                protocol_version: text(|it| &it.protocol_version),
                instructions: text(|it| &it.instructions),
                disabled: false,
                capabilities: text(|it| &it.capabilities),
            }),
            Resource::Key(KeyResource {
                id: ID.to_owned(),
                key: Key::Session(Secret::new(self.key)),
                create_time_ms: 0,
            }),
        ];
        if has_secrets {
            let headers = self.headers.clone();
            resources.push(Resource::Credential(CredentialResource { id: ID.to_owned(), headers }));
        }
        let mut seen = AHashSet::new();
        for tool in catalog.into_iter().flat_map(|it| &it.tools) {
            if seen.insert((None, tool.name.as_str())) {
                resources.push(Resource::Tool(ToolResource {
                    id: format!("tool {}", tool.name),
                    name: tool.name.clone(),
                    target: ToolTarget::Upstream {
                        upstream_id: ID.to_owned(),
                        original_name: tool.name.clone(),
                    },
                    definition: tool.definition.clone(),
                    needs_client_capabilities: tool.needs_client_capabilities.clone(),
                    aliases: Vec::new(),
                }));
            }
        }
        for entry in catalog.into_iter().flat_map(|it| &it.entries) {
            if seen.insert((Some(entry.kind), entry.original.as_str())) {
                let name = match entry.kind {
                    EntryKind::Prompt => entry.original.clone(),
                    EntryKind::Resource | EntryKind::ResourceTemplate => String::new(),
                };
                resources.push(Resource::Entry(EntryResource {
                    id: format!("{} {}", entry.kind.as_str(), entry.original),
                    kind: entry.kind,
                    upstream_id: ID.to_owned(),
                    name,
                    original: entry.original.clone(),
                    definition: entry.definition.clone(),
                    needs_client_capabilities: entry.needs_client_capabilities.clone(),
                }));
            }
        }
        resources
    }
}

/// Waits until a catalog may have changed.
async fn until_stale(news: &News) {
    while news.take().stale.is_empty() {
        news.came().await;
    }
}

fn refused(errors: &[FieldError]) -> NotBegun {
    let said = errors.iter().map(|error| format!("{} {}", error.resource, error.message));
    let message = format!("its catalog cannot be shown: {}", said.collect::<Vec<_>>().join("; "));
    NotBegun { reason: FailureReason::List, message }
}

#[cfg(test)]
mod tests {
    use proto::{Era, catalog::CatalogTool, entry::CatalogEntry};

    use super::*;
    use crate::mcp::Capabilities;
    use crate::mcp::list::ListKind;

    fn content() -> Content {
        Content {
            name: "up".parse().unwrap(),
            transport: Transport::Http { url: "http://127.0.0.1:1/mcp".parse().unwrap() },
            headers: BTreeMap::from([("Authorization".to_owned(), Secret::from("x".to_owned()))]),
            admission: Admission::Anybody,
            key: [7; 32],
        }
    }

    #[test]
    fn everything_is_shown_under_its_own_name_and_once() {
        let tool = |name: &str| CatalogTool {
            name: name.to_owned(),
            definition: format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#),
            needs_client_capabilities: vec![],
        };
        let entry = |kind, original: &str, definition: &str| CatalogEntry {
            kind,
            original: original.to_owned(),
            definition: definition.to_owned(),
            needs_client_capabilities: vec![],
        };
        let catalog = Catalog {
            era: Era::Legacy,
            protocol_version: "2025-11-25".to_owned(),
            server_info: "{}".to_owned(),
            capabilities: r#"{"tools":{},"prompts":{},"resources":{}}"#.to_owned(),
            instructions: "be kind".to_owned(),
            tools: vec![tool("echo"), tool("Odd.Name/x"), tool("echo")],
            entries: vec![
                entry(EntryKind::Prompt, "echo", r#"{"name":"echo"}"#),
                entry(EntryKind::Resource, "a://1", r#"{"uri":"a://1","name":"one"}"#),
                entry(EntryKind::Resource, "a://1", r#"{"uri":"a://1","name":"again"}"#),
            ],
        };
        let table = content().table(Some(&catalog), 2).unwrap();
        let names: Vec<_> = table.everything().tools().map(|(name, _)| name).collect();
        assert_eq!(names, ["Odd.Name/x", "echo"]);
        let listed = |kind| {
            let list = table.everything().list(kind, Era::Legacy, Capabilities::NONE);
            String::from_utf8(list.to_vec()).unwrap()
        };
        assert!(listed(ListKind::Prompts).contains(r#""name":"echo""#));
        assert_eq!(listed(ListKind::Resources).matches("a://1").count(), 1);
        assert_eq!(&*table.everything().instructions, "be kind");
        assert!(table.credential(ID).is_some());
    }
}
