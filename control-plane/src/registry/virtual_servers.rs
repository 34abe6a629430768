//! Virtual servers: register, read, change, delete.

use std::collections::HashMap;

use proto::{
    Invalid, Permission,
    entry::{Entry, EntryReference},
    resource::kind,
    virtual_server::{Naming, VirtualServer, VirtualServerDraft},
};
use serde::Serialize;

use super::{
    Action, Listed, Page, Registry, WriteOptions, check_version, new_id,
    unit::{Answer, Begun, Unit},
};
use crate::{
    caller::Caller,
    error::Error,
    store::{
        entries::{self, Shelf, StoredEntry},
        tools::{self, StoredTool},
        upstreams,
        virtual_servers::{self, StoredServer},
    },
};

const KIND: &str = "server";

/// What a draft's references stand for, each once, in their order.
#[derive(Default)]
struct Selection {
    upstream_ids: Vec<String>,
    upstreams: Vec<String>,
    tools: Vec<StoredTool>,
    prompts: Vec<String>,
    resources: Vec<String>,
    /// Of the prompts, then of the resources.
    entries: Vec<EntryReference>,
}

impl Registry {
    pub async fn create_virtual_server(
        &self,
        caller: &Caller,
        draft: VirtualServerDraft,
        options: WriteOptions,
    ) -> Result<VirtualServer, Error> {
        let body = server_body(&draft);
        let begun = self.begin::<Answer>(caller, &options, ("create server", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_virtual_server(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let server = create(&mut unit, draft).await?;
        unit.finish(&Answer { id: server.id.clone(), revision: server.resource_version }).await?;
        Ok(server)
    }

    pub async fn get_virtual_server(
        &self,
        caller: &Caller,
        name_or_id: &str,
    ) -> Result<VirtualServer, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let found = virtual_servers::find(read.connection(), name_or_id).await?;
        Ok(found.ok_or_else(|| not_found(name_or_id))?.server)
    }

    pub async fn list_virtual_servers(
        &self,
        caller: &Caller,
        page: Page,
    ) -> Result<Listed<VirtualServer>, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let revision = read.revision().await?;
        let found = virtual_servers::page(read.connection(), page.after()?, page.limit()).await?;
        let items = found.into_iter().map(|stored| stored.server).collect();
        Ok(page.cut(items, revision, |server: &VirtualServer| &server.id))
    }

    /// `change` makes the new definition out of the current one.
    #[expect(clippy::too_many_arguments, reason = "each is a word of the request")]
    pub async fn update_virtual_server(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        change: impl FnOnce(VirtualServer) -> Result<VirtualServerDraft, Invalid> + Send,
        options: WriteOptions,
    ) -> Result<VirtualServer, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("update server", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_virtual_server(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let stored = found(&mut unit, name_or_id).await?;
        let current = &stored.server;
        check_version(KIND, current.name.as_str(), current.resource_version, expected_version)?;
        let draft = change(current.clone())?;
        let (server, _) = update(&mut unit, stored, draft).await?;
        unit.finish(&Answer { id: server.id.clone(), revision: server.resource_version }).await?;
        Ok(server)
    }

    /// Gives the revision without it.
    pub async fn delete_virtual_server(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        options: WriteOptions,
    ) -> Result<u64, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("delete server", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { revision, .. }) => return Ok(revision),
            Begun::New(unit) => unit,
        };
        let StoredServer { server, .. } = found(&mut unit, name_or_id).await?;
        check_version(KIND, server.name.as_str(), server.resource_version, expected_version)?;
        virtual_servers::delete(unit.write.connection(), &server.id).await?;
        let revision = unit.write.changed(kind::SERVER, "", &server.id).await?;
        unit.finish(&Answer { id: server.id, revision }).await?;
        Ok(revision)
    }
}

/// What decides the outcome of a create.
pub(super) fn server_body(draft: &VirtualServerDraft) -> impl Serialize + use<> {
    let VirtualServerDraft {
        name,
        title,
        description,
        upstreams,
        tools,
        prompts,
        resources,
        naming,
        icon,
        disabled,
        tags,
    } = draft.clone();
    (
        (name.to_string(), title, description, icon),
        (upstreams, tools, prompts, resources),
        (naming.as_str(), disabled, tags),
    )
}

fn not_found(name: &str) -> Error {
    Error::NotFound { kind: KIND, name: name.to_owned() }
}

async fn found(unit: &mut Unit<'_>, name_or_id: &str) -> Result<StoredServer, Error> {
    let found = virtual_servers::find(unit.write.connection(), name_or_id).await?;
    found.ok_or_else(|| not_found(name_or_id))
}

/// Finds what the references stand for; the first dangling one is named by its path.
/// What `current` has chosen stays chosen while its upstream does not offer it.
async fn resolve(
    unit: &mut Unit<'_>,
    draft: &VirtualServerDraft,
    current: Option<&StoredServer>,
) -> Result<Selection, Error> {
    let mut selection = Selection::default();
    for (index, name) in draft.upstreams.iter().enumerate() {
        let stored = upstreams::find(unit.write.connection(), name).await?;
        let upstream = stored.ok_or_else(|| dangling("upstreams", index, name))?.upstream;
        if !selection.upstream_ids.contains(&upstream.id) {
            selection.upstream_ids.push(upstream.id);
            selection.upstreams.push(upstream.name.to_string());
        }
    }
    for (index, name) in draft.tools.iter().enumerate() {
        let stored = tools::find(unit.write.connection(), name).await?;
        let stored = stored.ok_or_else(|| dangling("tools", index, name))?;
        if !selection.tools.iter().any(|it| it.tool.id == stored.tool.id) {
            selection.tools.push(stored);
        }
    }
    let prompts = (Shelf::Prompts, "prompts", draft.prompts.as_slice());
    selection.prompts = choose(unit, &mut selection.entries, prompts, current).await?;
    let resources = (Shelf::Resources, "resources", draft.resources.as_slice());
    selection.resources = choose(unit, &mut selection.entries, resources, current).await?;
    if draft.naming == Naming::Bare {
        check_bare_names(unit, &selection).await?;
    }
    Ok(selection)
}

/// Adds what the names of one shelf stand for to `entries`; gives them as they are shown.
async fn choose(
    unit: &mut Unit<'_>,
    entries: &mut Vec<EntryReference>,
    (shelf, field, names): (Shelf, &str, &[String]),
    current: Option<&StoredServer>,
) -> Result<Vec<String>, Error> {
    let mut shown = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let found = entries::meant(unit.write.connection(), shelf, name).await?;
        let (as_shown, entry) = match found.as_slice() {
            [stored] => named(&stored.entry),
            [] => kept(current, name).ok_or_else(|| dangling(field, index, name))?,
            [_, ..] => return Err(ambiguous((field, index), name, &found).into()),
        };
        if !entries.contains(&entry) {
            entries.push(entry);
            shown.push(as_shown);
        }
    }
    Ok(shown)
}

fn named(entry: &Entry) -> (String, EntryReference) {
    let original = entry.offered.original.clone();
    let shown = match &entry.name {
        Some(name) => name.to_string(),
        None => entries::qualified(entry.upstream.as_str(), &original),
    };
    let (upstream_id, kind) = (entry.upstream_id.clone(), entry.offered.kind);
    (shown, EntryReference { upstream_id, kind, original })
}

/// What the virtual server has chosen under this name already.
fn kept(current: Option<&StoredServer>, name: &str) -> Option<(String, EntryReference)> {
    let current = current?;
    let shown = current.server.prompts.iter().chain(&current.server.resources);
    let mut chosen = shown.zip(&current.entries);
    let (shown, entry) = chosen.find(|(shown, _)| *shown == name)?;
    Some((shown.clone(), entry.clone()))
}

fn ambiguous((field, index): (&str, usize), name: &str, found: &[StoredEntry]) -> Invalid {
    let meant: Vec<_> = found
        .iter()
        .map(|it| entries::qualified(it.entry.upstream.as_str(), &it.entry.offered.original))
        .collect();
    let problem = format!("`{name}` may be {}: say which", meant.join(" or "));
    Invalid::new(format!("{field}[{index}]"), problem)
}

fn dangling(field: &str, index: usize, name: &str) -> Invalid {
    let kind = field.trim_end_matches('s');
    Invalid::new(format!("{field}[{index}]"), format!("names no {kind}: there is no `{name}`"))
}

/// Without prefixes, two tools of one virtual server may not have the same name.
async fn check_bare_names(unit: &mut Unit<'_>, selection: &Selection) -> Result<(), Error> {
    let mut tools = selection.tools.clone();
    for id in &selection.upstream_ids {
        tools.extend(tools::page_of_upstream(unit.write.connection(), id, "", u64::MAX).await?);
    }
    let mut seen: HashMap<&str, &StoredTool> = HashMap::new();
    for stored in &tools {
        let Some(first) = seen.insert(stored.bare_name(), stored) else { continue };
        if first.tool.id != stored.tool.id {
            let (bare, one, other) = (stored.bare_name(), &first.tool.name, &stored.tool.name);
            let problem =
                format!("`bare` would give `{bare}` to both `{one}` and `{other}`: use `prefix`");
            return Err(Invalid::new("naming", problem).into());
        }
    }
    Ok(())
}

impl Selection {
    fn stored(self, server: VirtualServer) -> StoredServer {
        let enabled = self.tools.iter().filter(|it| !it.tool.disabled);
        let enabled_tool_ids = enabled.map(|it| it.tool.id.clone()).collect();
        let tools = self.tools.iter().map(|it| it.tool.name.to_string()).collect();
        let tool_ids = self.tools.iter().map(|it| it.tool.id.clone()).collect();
        let Self { upstream_ids, upstreams, tools: _, prompts, resources, entries } = self;
        let server = VirtualServer { upstreams, tools, tool_ids, prompts, resources, ..server };
        StoredServer { server, upstream_ids, enabled_tool_ids, entries }
    }
}

pub(super) async fn create(
    unit: &mut Unit<'_>,
    draft: VirtualServerDraft,
) -> Result<VirtualServer, Error> {
    let taken = virtual_servers::find(unit.write.connection(), draft.name.as_str()).await?;
    if taken.is_some_and(|it| it.server.name == draft.name) {
        return Err(Error::AlreadyExists { kind: KIND, name: draft.name.to_string() });
    }
    let selection = resolve(unit, &draft, None).await?;
    let id = new_id();
    let server = VirtualServer {
        resource_version: unit.write.changed(kind::SERVER, "", &id).await?,
        id,
        name: draft.name,
        title: draft.title,
        description: draft.description,
        upstreams: Vec::new(),
        tools: Vec::new(),
        tool_ids: Vec::new(),
        prompts: Vec::new(),
        resources: Vec::new(),
        naming: draft.naming,
        icon: draft.icon,
        disabled: draft.disabled,
        tags: draft.tags,
        create_time_ms: unit.now_ms,
        update_time_ms: unit.now_ms,
    };
    let stored = selection.stored(server);
    virtual_servers::insert(unit.write.connection(), &stored).await?;
    Ok(stored.server)
}

pub(super) async fn update(
    unit: &mut Unit<'_>,
    stored: StoredServer,
    draft: VirtualServerDraft,
) -> Result<(VirtualServer, Action), Error> {
    if draft.name != stored.server.name {
        return Err(Invalid::new("name", "cannot be changed").into());
    }
    let selection = resolve(unit, &draft, Some(&stored)).await?;
    let StoredServer { server: current, upstream_ids, enabled_tool_ids: _, entries } = stored;
    let wanted = VirtualServer {
        title: draft.title,
        description: draft.description,
        naming: draft.naming,
        icon: draft.icon,
        disabled: draft.disabled,
        tags: draft.tags,
        ..current.clone()
    };
    let mut wanted = selection.stored(wanted);
    if wanted.server == current && wanted.upstream_ids == upstream_ids && wanted.entries == entries
    {
        return Ok((current, Action::Unchanged));
    }
    wanted.server.resource_version = unit.write.changed(kind::SERVER, "", &current.id).await?;
    wanted.server.update_time_ms = unit.now_ms;
    virtual_servers::update(unit.write.connection(), &wanted).await?;
    Ok((wanted.server, Action::Updated))
}
