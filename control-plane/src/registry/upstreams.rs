//! Upstreams: register, read, change, delete.

use proto::{
    Credential, CredentialChange, EntryKind, Invalid, Permission,
    resource::kind,
    upstream::{Phase, Transport, Upstream, UpstreamDraft, UpstreamStatus},
};
use serde::Serialize;

use super::{
    Action, Listed, Page, Registry, WriteOptions, check_version,
    credentials::{self, Held},
    new_id,
    unit::{Answer, Begun, Unit},
};
use crate::{
    caller::Caller,
    config::StdioUpstreams,
    error::Error,
    store::{
        discoveries, entries, tools,
        upstreams::{self, StoredUpstream, transport_text},
        virtual_servers,
    },
};

const KIND: &str = "upstream";

impl Registry {
    pub async fn create_upstream(
        &self,
        caller: &Caller,
        draft: UpstreamDraft,
        options: WriteOptions,
    ) -> Result<Upstream, Error> {
        let body = self.upstream_body(&draft);
        let begun = self.begin::<Answer>(caller, &options, ("create upstream", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_upstream(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let upstream = create(&mut unit, draft).await?;
        let answer = Answer { id: upstream.id.clone(), revision: upstream.resource_version };
        unit.finish(&answer).await?;
        self.wish();
        Ok(upstream)
    }

    pub async fn get_upstream(&self, caller: &Caller, name_or_id: &str) -> Result<Upstream, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let found = upstreams::find(read.connection(), name_or_id).await?;
        Ok(found.ok_or_else(|| not_found(name_or_id))?.upstream)
    }

    pub async fn list_upstreams(
        &self,
        caller: &Caller,
        page: Page,
    ) -> Result<Listed<Upstream>, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let revision = read.revision().await?;
        let found = upstreams::page(read.connection(), page.after()?, page.limit()).await?;
        let items = found.into_iter().map(|stored| stored.upstream).collect();
        Ok(page.cut(items, revision, |upstream: &Upstream| &upstream.id))
    }

    /// `change` makes the new definition out of the current one.
    #[expect(clippy::too_many_arguments, reason = "each is a word of the request")]
    pub async fn update_upstream(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        change: impl FnOnce(Upstream) -> Result<UpstreamDraft, Invalid> + Send,
        options: WriteOptions,
    ) -> Result<Upstream, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("update upstream", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { id, .. }) => return self.get_upstream(caller, &id).await,
            Begun::New(unit) => unit,
        };
        let stored = found(&mut unit, name_or_id).await?;
        let current = &stored.upstream;
        check_version(KIND, current.name.as_str(), current.resource_version, expected_version)?;
        let draft = change(current.clone())?;
        let (upstream, _) = update(&mut unit, stored, draft).await?;
        let answer = Answer { id: upstream.id.clone(), revision: upstream.resource_version };
        unit.finish(&answer).await?;
        self.wish();
        Ok(upstream)
    }

    /// Gives the revision without it.
    pub async fn delete_upstream(
        &self,
        caller: &Caller,
        name_or_id: &str,
        expected_version: Option<u64>,
        options: WriteOptions,
    ) -> Result<u64, Error> {
        let body = (name_or_id, expected_version);
        let begun = self.begin::<Answer>(caller, &options, ("delete upstream", body)).await?;
        let mut unit = match begun {
            Begun::Again(Answer { revision, .. }) => return Ok(revision),
            Begun::New(unit) => unit,
        };
        let stored = found(&mut unit, name_or_id).await?;
        let current = &stored.upstream;
        check_version(KIND, current.name.as_str(), current.resource_version, expected_version)?;
        let id = current.id.clone();
        let revision = delete(&mut unit, stored).await?;
        unit.finish(&Answer { id, revision }).await?;
        Ok(revision)
    }

    /// Wishes for a new look at the catalog; its end shows in the status.
    pub async fn refresh_upstream(
        &self,
        caller: &Caller,
        name_or_id: &str,
    ) -> Result<Upstream, Error> {
        let options = WriteOptions::default();
        let begun = self.begin::<Answer>(caller, &options, ("refresh upstream", "")).await?;
        let Begun::New(mut unit) = begun else {
            return self.get_upstream(caller, name_or_id).await;
        };
        let StoredUpstream { upstream, .. } = found(&mut unit, name_or_id).await?;
        if upstream.disabled {
            return Err(Invalid::new("name", "is a disabled upstream: enable it first").into());
        }
        discoveries::want(unit.write.connection(), &upstream.id).await?;
        unit.finish(&()).await?;
        self.wish();
        Ok(upstream)
    }

    /// What decides the outcome of a create.
    pub(super) fn upstream_body(&self, draft: &UpstreamDraft) -> impl Serialize + use<> {
        let UpstreamDraft {
            name,
            title,
            description,
            transport,
            credential,
            catalog_scope,
            disabled,
            tags,
        } = draft;
        (
            (name.to_string(), title.clone(), description.clone(), transport_text(transport)),
            credentials::digest_of(&self.sealer, credential),
            (format!("{catalog_scope:?}"), *disabled, tags.clone()),
        )
    }
}

fn not_found(name: &str) -> Error {
    Error::NotFound { kind: KIND, name: name.to_owned() }
}

async fn found(unit: &mut Unit<'_>, name_or_id: &str) -> Result<StoredUpstream, Error> {
    let found = upstreams::find(unit.write.connection(), name_or_id).await?;
    found.ok_or_else(|| not_found(name_or_id))
}

/// Rules that a new definition must keep.
fn check(unit: &Unit<'_>, draft: &UpstreamDraft) -> Result<(), Error> {
    match &draft.transport {
        Transport::Http { .. } | Transport::Sse { .. } | Transport::WebSocket { .. } => Ok(()),
        Transport::Stdio(_) => {
            unit.caller.require(Permission::StdioDefine)?;
            if unit.stdio == StdioUpstreams::Forbidden {
                let problem = "cannot be defined here: `stdio_upstreams` is false";
                return Err(Invalid::new("stdio", problem).into());
            }
            let CredentialChange::Set(credential) = &draft.credential else { return Ok(()) };
            match credential {
                Credential::Headers(_) => Ok(()),
                Credential::Bearer(_) | Credential::Basic { .. } => {
                    let problem =
                        "must be `headers` here: a command gets them as environment variables";
                    Err(Invalid::new("credential", problem).into())
                }
            }
        }
    }
}

fn phase(disabled: &UpstreamDraft) -> Phase {
    if disabled.disabled { Phase::Disabled } else { Phase::Pending }
}

pub(super) async fn create(unit: &mut Unit<'_>, draft: UpstreamDraft) -> Result<Upstream, Error> {
    check(unit, &draft)?;
    let taken = upstreams::find(unit.write.connection(), draft.name.as_str()).await?;
    if taken.is_some_and(|it| it.upstream.name == draft.name) {
        return Err(Error::AlreadyExists { kind: KIND, name: draft.name.to_string() });
    }
    let id = new_id();
    let owner = format!("upstream/{id}");
    let credential = credentials::plan(unit.sealer, owner, &Held::default(), &draft.credential);
    let held = credential.before(unit, Held::default()).await?;
    let revision = unit.write.changed(kind::UPSTREAM, "", &id).await?;
    let phase = phase(&draft);
    let upstream = Upstream {
        id,
        name: draft.name,
        title: draft.title,
        description: draft.description,
        transport: draft.transport,
        credential: held.summary,
        catalog_scope: draft.catalog_scope,
        disabled: draft.disabled,
        tags: draft.tags,
        status: UpstreamStatus { phase, ..UpstreamStatus::default() },
        resource_version: revision,
        create_time_ms: unit.now_ms,
        update_time_ms: unit.now_ms,
    };
    upstreams::insert(unit.write.connection(), &upstream, held.id.as_deref()).await?;
    discoveries::insert(unit.write.connection(), &upstream.id, phase).await?;
    Ok(upstream)
}

pub(super) async fn update(
    unit: &mut Unit<'_>,
    stored: StoredUpstream,
    draft: UpstreamDraft,
) -> Result<(Upstream, Action), Error> {
    let StoredUpstream { upstream: current, credential_id, .. } = stored;
    if draft.name != current.name {
        return Err(Invalid::new("name", "cannot be changed").into());
    }
    check(unit, &draft)?;
    let held = Held { id: credential_id, summary: current.credential.clone() };
    let owner = format!("upstream/{}", current.id);
    let credential = credentials::plan(unit.sealer, owner, &held, &draft.credential);
    let is_elsewhere = credential.is_change()
        || draft.transport != current.transport
        || draft.catalog_scope != current.catalog_scope
        || draft.disabled != current.disabled;
    let is_described = draft.title != current.title
        || draft.description != current.description
        || draft.tags != current.tags;
    if !is_elsewhere && !is_described {
        return Ok((current, Action::Unchanged));
    }
    let held = credential.before(unit, held).await?;
    let phase = phase(&draft);
    let mut upstream = Upstream {
        title: draft.title,
        description: draft.description,
        transport: draft.transport,
        credential: held.summary,
        catalog_scope: draft.catalog_scope,
        disabled: draft.disabled,
        tags: draft.tags,
        resource_version: unit.write.changed(kind::UPSTREAM, "", &current.id).await?,
        update_time_ms: unit.now_ms,
        ..current
    };
    upstreams::update(unit.write.connection(), &upstream, held.id.as_deref()).await?;
    credential.after(unit).await?;
    if is_elsewhere {
        discoveries::restart(unit.write.connection(), &upstream.id, phase).await?;
        upstream.status.phase = phase;
        upstream.status.reason = None;
        upstream.status.message.clear();
    }
    Ok((upstream, Action::Updated))
}

/// Deletes an upstream with all that it offers and its credential.
async fn delete(unit: &mut Unit<'_>, stored: StoredUpstream) -> Result<u64, Error> {
    let StoredUpstream { upstream, credential_id, .. } = stored;
    let users = virtual_servers::users_of_upstream(unit.write.connection(), &upstream.id).await?;
    if let Some(user) = users.first() {
        let user = format!("server `{}`", user.name);
        return Err(Error::InUse { kind: KIND, name: upstream.name.to_string(), user });
    }
    let tools = tools::of_upstream(unit.write.connection(), &upstream.id).await?;
    let tool_ids: Vec<String> = tools.iter().map(|it| it.tool.id.clone()).collect();
    let mut users = virtual_servers::users_of_tools(unit.write.connection(), &tool_ids).await?;
    users.extend(virtual_servers::users_of_entries(unit.write.connection(), &upstream.id).await?);
    for user in users {
        unit.write.changed(kind::SERVER, "", &user.id).await?;
    }
    unit.write.changed_all(kind::TOOL, &upstream.id, &tool_ids).await?;
    tools::delete_of_upstream(unit.write.connection(), &upstream.id).await?;
    let entries = entries::of_upstream(unit.write.connection(), &upstream.id).await?;
    for kind in EntryKind::ALL {
        let of_kind = entries.iter().filter(|it| it.entry.offered.kind == kind);
        let ids: Vec<String> = of_kind.map(|it| it.entry.id.clone()).collect();
        unit.write.changed_all(kind.as_str(), &upstream.id, &ids).await?;
    }
    entries::delete_of_upstream(unit.write.connection(), &upstream.id).await?;
    discoveries::delete(unit.write.connection(), &upstream.id).await?;
    upstreams::delete(unit.write.connection(), &upstream.id).await?;
    if let Some(id) = credential_id {
        credentials::Planned::Drop(id).after(unit).await?;
    }
    Ok(unit.write.changed(kind::UPSTREAM, "", &upstream.id).await?)
}

#[cfg(test)]
mod tests;
