//! Tools: authored ones are registered, changed and deleted here; discovered
//! ones are read here and belong to their upstream.

use proto::{
    Invalid, Permission,
    resource::kind,
    tool::{Tool, ToolDraft, ToolSource},
};
use serde::Serialize;

use super::{
    Action, Listed, Page, Registry, WriteOptions, check_version,
    credentials::{self, Held},
    names::{Claim, Names, authored_alias},
    new_id,
    unit::{Answer, Begun, Unit},
};
use crate::{
    caller::Caller,
    error::Error,
    store::{
        tools::{self, NameHolder, StoredTool, rest_text},
        upstreams, virtual_servers,
    },
};

const KIND: &str = "tool";

impl Registry {
    pub async fn create_tool(
        &self,
        caller: &Caller,
        draft: ToolDraft,
        options: WriteOptions,
    ) -> Result<Tool, Error> {
        let body = self.tool_body(&draft);
        let begun = self.begin::<Answer>(caller, &options, ("create tool", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_tool(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let tool = create(&mut unit, draft).await?;
        unit.finish(&Answer { id: tool.id.clone(), revision: tool.resource_version }).await?;
        Ok(tool)
    }

    pub async fn get_tool(&self, caller: &Caller, name_or_id: &str) -> Result<Tool, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let found = tools::find(read.connection(), name_or_id).await?;
        Ok(found.ok_or_else(|| not_found(name_or_id))?.tool)
    }

    /// All tools, or those of one upstream (by name or id).
    pub async fn list_tools(
        &self,
        caller: &Caller,
        upstream: Option<&str>,
        page: Page,
    ) -> Result<Listed<Tool>, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let revision = read.revision().await?;
        let (after, limit) = (page.after()?, page.limit());
        let found = match upstream {
            None => tools::page(read.connection(), after, limit).await?,
            Some(name) => {
                let upstream =
                    upstreams::find(read.connection(), name).await?.ok_or_else(|| {
                        Error::NotFound { kind: kind::UPSTREAM, name: name.to_owned() }
                    })?;
                let id = &upstream.upstream.id;
                tools::page_of_upstream(read.connection(), id, after, limit).await?
            }
        };
        let items = found.into_iter().map(|stored| stored.tool).collect();
        Ok(page.cut(items, revision, |tool: &Tool| &tool.id))
    }

    /// `change` makes the new definition out of the current one.
    #[expect(clippy::too_many_arguments, reason = "each is a word of the request")]
    pub async fn update_tool(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        change: impl FnOnce(Tool) -> Result<ToolDraft, Invalid> + Send,
        options: WriteOptions,
    ) -> Result<Tool, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("update tool", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_tool(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let stored = found(&mut unit, name_or_id).await?;
        let current = &stored.tool;
        check_version(KIND, current.name.as_str(), current.resource_version, expected_version)?;
        check_authored(current)?;
        let draft = change(current.clone())?;
        let (tool, _) = update(&mut unit, stored, draft).await?;
        unit.finish(&Answer { id: tool.id.clone(), revision: tool.resource_version }).await?;
        Ok(tool)
    }

    /// Gives the revision without it.
    pub async fn delete_tool(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        options: WriteOptions,
    ) -> Result<u64, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("delete tool", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { revision, .. }) => return Ok(revision),
            Begun::New(unit) => unit,
        };
        let stored = found(&mut unit, name_or_id).await?;
        let current = &stored.tool;
        check_version(KIND, current.name.as_str(), current.resource_version, expected_version)?;
        check_authored(current)?;
        let id = current.id.clone();
        let revision = delete(&mut unit, stored).await?;
        unit.finish(&Answer { id, revision }).await?;
        Ok(revision)
    }

    /// What decides the outcome of a create.
    pub(super) fn tool_body(&self, draft: &ToolDraft) -> impl Serialize + use<> {
        let rest = rest_text(&draft.rest);
        let credential = credentials::digest_of(&self.sealer, &draft.credential);
        (draft.definition(), rest, credential, draft.disabled, draft.tags.clone())
    }
}

fn not_found(name: &str) -> Error {
    Error::NotFound { kind: KIND, name: name.to_owned() }
}

async fn found(unit: &mut Unit<'_>, name_or_id: &str) -> Result<StoredTool, Error> {
    let found = tools::find(unit.write.connection(), name_or_id).await?;
    found.ok_or_else(|| not_found(name_or_id))
}

pub(super) fn check_authored(tool: &Tool) -> Result<(), Error> {
    match &tool.source {
        ToolSource::Rest(_) => Ok(()),
        ToolSource::Upstream { name, .. } => {
            let problem = format!("is a tool of upstream `{name}`: it can be changed only there");
            Err(Invalid::new("name", problem).into())
        }
    }
}

/// A schema that a proxy could not check arguments against is refused here.
fn check_schemas(draft: &ToolDraft) -> Result<(), Invalid> {
    for (field, text) in
        [("input_schema", &draft.input_schema), ("output_schema", &draft.output_schema)]
    {
        if text.is_empty() {
            continue;
        }
        let schema: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| Invalid::new(field, format!("is not JSON: {error}")))?;
        jsonschema::validator_for(&schema).map_err(|error| {
            Invalid::new(field, format!("is not a usable JSON Schema: {error}"))
        })?;
    }
    Ok(())
}

pub(super) async fn create(unit: &mut Unit<'_>, draft: ToolDraft) -> Result<Tool, Error> {
    check_schemas(&draft)?;
    let id = new_id();
    let claim = claim_name(unit, &id, draft.name.as_str()).await?;
    let owner = format!("tool/{id}");
    let credential = credentials::plan(unit.sealer, owner, &Held::default(), &draft.credential);
    let held = credential.before(unit, Held::default()).await?;
    let tool = Tool {
        definition: draft.definition(),
        name: draft.name,
        source: ToolSource::Rest(draft.rest),
        credential: held.summary,
        disabled: draft.disabled,
        tags: draft.tags,
        needs_client_capabilities: Vec::new(),
        resource_version: unit.write.changed(kind::TOOL, "", &id).await?,
        create_time_ms: unit.now_ms,
        update_time_ms: unit.now_ms,
        id,
    };
    let stored = StoredTool { tool, credential_id: held.id, alias: claim.alias, is_gone: false };
    tools::insert(unit.write.connection(), std::slice::from_ref(&stored)).await?;
    Ok(stored.tool)
}

async fn claim_name(unit: &mut Unit<'_>, id: &str, name: &str) -> Result<Claim, Error> {
    let alias = authored_alias(name);
    let other = alias.as_deref().unwrap_or(name);
    let holders = tools::holders(unit.write.connection(), name, other).await?;
    let wanted = NameHolder {
        id: id.to_owned(),
        name: name.to_owned(),
        alias,
        upstream_id: None,
        is_gone: false,
    };
    let claim = Names::new(holders)
        .claim(wanted)
        .map_err(|_| Error::AlreadyExists { kind: KIND, name: name.to_owned() })?;
    settle(unit, &claim).await?;
    Ok(claim)
}

/// Takes from others what a claim takes.
pub(super) async fn settle(unit: &mut Unit<'_>, claim: &Claim) -> Result<(), Error> {
    for holder in &claim.evicted {
        tools::delete(unit.write.connection(), &holder.id).await?;
    }
    for holder in &claim.unaliased {
        tools::drop_alias(unit.write.connection(), &holder.id).await?;
        let owner = holder.upstream_id.as_deref().unwrap_or_default();
        unit.write.changed(kind::TOOL, owner, &holder.id).await?;
    }
    Ok(())
}

pub(super) async fn update(
    unit: &mut Unit<'_>,
    stored: StoredTool,
    draft: ToolDraft,
) -> Result<(Tool, Action), Error> {
    let StoredTool { tool: current, credential_id, alias, is_gone } = stored;
    if draft.name != current.name {
        return Err(Invalid::new("name", "cannot be changed").into());
    }
    check_schemas(&draft)?;
    let held = Held { id: credential_id, summary: current.credential.clone() };
    let owner = format!("tool/{}", current.id);
    let credential = credentials::plan(unit.sealer, owner, &held, &draft.credential);
    let definition = draft.definition();
    let source = ToolSource::Rest(draft.rest);
    let is_same = definition == current.definition
        && source == current.source
        && draft.disabled == current.disabled
        && draft.tags == current.tags;
    if is_same && !credential.is_change() {
        return Ok((current, Action::Unchanged));
    }
    if draft.disabled != current.disabled {
        changed_users(unit, std::slice::from_ref(&current.id)).await?;
    }
    let held = credential.before(unit, held).await?;
    let tool = Tool {
        definition,
        source,
        credential: held.summary,
        disabled: draft.disabled,
        tags: draft.tags,
        resource_version: unit.write.changed(kind::TOOL, "", &current.id).await?,
        update_time_ms: unit.now_ms,
        ..current
    };
    let stored = StoredTool { tool, credential_id: held.id, alias, is_gone };
    tools::update(unit.write.connection(), &stored).await?;
    credential.after(unit).await?;
    Ok((stored.tool, Action::Updated))
}

/// The selections of virtual servers that name one of these tools look different now.
pub(super) async fn changed_users(unit: &mut Unit<'_>, ids: &[String]) -> Result<(), Error> {
    for user in virtual_servers::users_of_tools(unit.write.connection(), ids).await? {
        unit.write.changed(kind::SERVER, "", &user.id).await?;
    }
    Ok(())
}

async fn delete(unit: &mut Unit<'_>, stored: StoredTool) -> Result<u64, Error> {
    let StoredTool { tool, credential_id, .. } = stored;
    let ids = std::slice::from_ref(&tool.id);
    let users = virtual_servers::users_of_tools(unit.write.connection(), ids).await?;
    if let Some(user) = users.first() {
        let user = format!("server `{}`", user.name);
        return Err(Error::InUse { kind: KIND, name: tool.name.to_string(), user });
    }
    tools::delete(unit.write.connection(), &tool.id).await?;
    if let Some(id) = credential_id {
        credentials::Planned::Drop(id).after(unit).await?;
    }
    Ok(unit.write.changed(kind::TOOL, "", &tool.id).await?)
}
