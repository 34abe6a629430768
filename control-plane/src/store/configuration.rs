//! What the snapshot builder reads: the registry as sync resources.

use std::collections::HashMap;

use proto::{
    EntryKind,
    entry::EntryResource,
    resource::{Resource, ToolResource, ToolTarget, UpstreamResource, VirtualServerResource, kind},
    tool::ToolSource,
};

use sqlx::AnyConnection;

use super::{
    Read, StoreError, Write,
    changes::{self, ChangedKey},
    credentials,
    entries::{self, StoredEntry},
    tools::{self, StoredTool},
    upstreams::{self, StoredUpstream},
    virtual_servers::{self, StoredServer},
};
use crate::seal::Sealer;

/// Everything of the registry that proxies are told, at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    pub revision: u64,
    pub resources: Vec<Resource>,
}

/// The kinds that are read here.
pub const KINDS: [&str; 7] = [
    kind::UPSTREAM,
    kind::TOOL,
    kind::PROMPT,
    kind::RESOURCE,
    kind::RESOURCE_TEMPLATE,
    kind::SERVER,
    kind::CREDENTIAL,
];

/// Reads the whole registry.
pub async fn read_all(read: &mut Read, sealer: &Sealer) -> Result<Configuration, StoreError> {
    let revision = read.revision().await?;
    let connection = read.connection();
    let mut resources = Vec::new();
    let upstreams = upstreams::page(connection, "", u64::MAX).await?;
    resources.extend(upstreams.into_iter().map(upstream_resource));
    let tools = tools::page(connection, "", u64::MAX).await?;
    resources.extend(tools.into_iter().filter_map(tool_resource));
    resources.extend(entries::all(connection).await?.into_iter().map(entry_resource));
    let servers = virtual_servers::page(connection, "", u64::MAX).await?;
    resources.extend(servers.into_iter().filter_map(server_resource));
    let credentials = credentials::all(connection, sealer).await?;
    resources.extend(credentials.into_iter().map(Resource::Credential));
    Ok(Configuration { revision, resources })
}

/// Reads the named resources as they are now; None: proxies shall not have it.
/// Keys of kinds outside [`KINDS`] are left out of the answer.
pub async fn load(
    read: &mut Read,
    sealer: &Sealer,
    keys: &[ChangedKey],
) -> Result<Vec<(ChangedKey, Option<Resource>)>, StoreError> {
    load_from(read.connection(), sealer, keys).await
}

/// What this transaction changed, as proxies will be told it.
pub(crate) async fn written(
    write: &mut Write,
    sealer: &Sealer,
) -> Result<Vec<(ChangedKey, Option<Resource>)>, StoreError> {
    let keys = changes::changes_of(write).await?;
    load_from(write.connection(), sealer, &keys).await
}

async fn load_from(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    keys: &[ChangedKey],
) -> Result<Vec<(ChangedKey, Option<Resource>)>, StoreError> {
    let ids = |kind: &str| -> Vec<String> {
        keys.iter().filter(|key| key.kind == kind).map(|key| key.name.clone()).collect()
    };
    let mut found: HashMap<(&'static str, String), Resource> = HashMap::new();
    for stored in upstreams::by_ids(connection, &ids(kind::UPSTREAM)).await? {
        found.insert((kind::UPSTREAM, stored.upstream.id.clone()), upstream_resource(stored));
    }
    for stored in tools::by_ids(connection, &ids(kind::TOOL)).await? {
        let id = stored.tool.id.clone();
        found.extend(tool_resource(stored).map(|resource| ((kind::TOOL, id), resource)));
    }
    for entry_kind in EntryKind::ALL {
        let kind = entry_kind.as_str();
        for stored in entries::by_ids(connection, &ids(kind)).await? {
            found.insert((kind, stored.entry.id.clone()), entry_resource(stored));
        }
    }
    for stored in virtual_servers::by_ids(connection, &ids(kind::SERVER)).await? {
        let id = stored.server.id.clone();
        found.extend(server_resource(stored).map(|resource| ((kind::SERVER, id), resource)));
    }
    for credential in credentials::by_ids(connection, sealer, &ids(kind::CREDENTIAL)).await? {
        let id = credential.id.clone();
        found.insert((kind::CREDENTIAL, id), Resource::Credential(credential));
    }
    let mut loaded = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(kind) = KINDS.into_iter().find(|kind| *kind == key.kind) else { continue };
        loaded.push((key.clone(), found.remove(&(kind, key.name.clone()))));
    }
    Ok(loaded)
}

fn upstream_resource(stored: StoredUpstream) -> Resource {
    let StoredUpstream { upstream, credential_id, instructions, capabilities } = stored;
    Resource::Upstream(UpstreamResource {
        id: upstream.id,
        name: upstream.name,
        transport: upstream.transport,
        credential_id,
        catalog_scope: upstream.catalog_scope,
        era: upstream.status.era,
        protocol_version: upstream.status.protocol_version,
        instructions,
        disabled: upstream.disabled,
        capabilities,
    })
}

fn entry_resource(stored: StoredEntry) -> Resource {
    let StoredEntry { entry, is_gone: _ } = stored;
    let offered = entry.offered;
    Resource::Entry(EntryResource {
        id: entry.id,
        kind: offered.kind,
        upstream_id: entry.upstream_id,
        name: entry.name.map(|name| name.to_string()).unwrap_or_default(),
        original: offered.original,
        definition: offered.definition,
        needs_client_capabilities: offered.needs_client_capabilities,
    })
}

/// None: it is switched off.
fn tool_resource(stored: StoredTool) -> Option<Resource> {
    let StoredTool { tool, credential_id, alias, is_gone } = stored;
    if tool.disabled || is_gone {
        return None;
    }
    let target = match tool.source {
        ToolSource::Upstream { id, name: _, original_name } => {
            ToolTarget::Upstream { upstream_id: id, original_name }
        }
        ToolSource::Rest(binding) => ToolTarget::Rest { binding, credential_id },
    };
    Some(Resource::Tool(ToolResource {
        id: tool.id,
        name: tool.name.to_string(),
        target,
        definition: tool.definition,
        needs_client_capabilities: tool.needs_client_capabilities,
        aliases: alias.into_iter().collect(),
    }))
}

/// None: it is switched off.
fn server_resource(stored: StoredServer) -> Option<Resource> {
    let StoredServer { server, upstream_ids, enabled_tool_ids, entries } = stored;
    if server.disabled {
        return None;
    }
    Some(Resource::VirtualServer(VirtualServerResource {
        id: server.id,
        name: server.name,
        description: server.description,
        upstream_ids,
        tool_ids: enabled_tool_ids,
        entries,
        naming: server.naming,
    }))
}
