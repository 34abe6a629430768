//! `/servers`: virtual servers.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use proto::{
    Invalid, Permission, VirtualServerName,
    virtual_server::{VirtualServer, VirtualServerDraft},
    wire,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    registry::WriteOptions,
    rest::{
        body::{self, Listed},
        error::{RestError, detail},
        shapes::{self, Listing, Metrics, Provenance, Who, time},
    },
    services::Services,
};

/// A virtual server as it is written.
#[derive(Debug, Deserialize)]
struct ServerCreate {
    name: Option<String>,
    description: Option<String>,
    icon: Option<String>,
    tags: Option<Listed>,
    #[serde(alias = "associatedTools")]
    associated_tools: Option<Listed>,
    #[serde(alias = "associatedResources")]
    associated_resources: Option<Listed>,
    #[serde(alias = "associatedPrompts")]
    associated_prompts: Option<Listed>,
    #[serde(alias = "associatedA2aAgents")]
    associated_a2a_agents: Option<Listed>,
}

impl ServerCreate {
    /// The first member of a kind that does not exist here yet.
    fn unknown_member(&mut self) -> Option<String> {
        let id = self.associated_a2a_agents.take()?.items().into_iter().next()?;
        Some(format!("A2A Agent with ID {id} does not exist."))
    }

    fn draft(self) -> Result<VirtualServerDraft, Invalid> {
        let called = body::called::<VirtualServerName>(self.name)?;
        VirtualServerDraft::try_from(wire::VirtualServer {
            name: called.name,
            title: called.title,
            description: self.description.unwrap_or_default(),
            icon: self.icon.unwrap_or_default(),
            tools: self.associated_tools.map(Listed::items).unwrap_or_default(),
            prompts: self.associated_prompts.map(Listed::items).unwrap_or_default(),
            resources: self.associated_resources.map(Listed::items).unwrap_or_default(),
            tags: self.tags.map(Listed::items).unwrap_or_default(),
            ..wire::VirtualServer::default()
        })
    }
}

/// A virtual server as it is read. `isActive` is the seed era's `enabled`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerRead {
    id: String,
    name: String,
    description: String,
    icon: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    is_active: bool,
    enabled: bool,
    associated_tools: Vec<String>,
    associated_resources: Vec<String>,
    associated_prompts: Vec<String>,
    associated_a2a_agents: Vec<String>,
    metrics: Metrics,
    tags: Vec<String>,
    #[serde(flatten)]
    provenance: Provenance,
}

impl From<VirtualServer> for ServerRead {
    fn from(server: VirtualServer) -> Self {
        let VirtualServer {
            id,
            name,
            title,
            description,
            upstreams: _,
            tools: _,
            tool_ids,
            prompts,
            resources,
            naming: _,
            icon,
            disabled,
            tags,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = server;
        Self {
            id,
            name: if title.is_empty() { name.to_string() } else { title },
            description,
            icon: Some(icon).filter(|icon| !icon.is_empty()),
            created_at: time(create_time_ms),
            updated_at: time(update_time_ms),
            is_active: !disabled,
            enabled: !disabled,
            associated_tools: tool_ids,
            associated_resources: resources,
            associated_prompts: prompts,
            associated_a2a_agents: Vec::new(),
            metrics: Metrics::default(),
            tags,
            provenance: Provenance::of(resource_version),
        }
    }
}

pub(crate) async fn list(
    State(services): State<Services>,
    Extension(caller): Who,
    Query(query): Listing,
) -> Result<Response, RestError> {
    let registry = &services.registry;
    let servers = shapes::all(|page| registry.list_virtual_servers(&caller, page)).await?;
    let shown = servers
        .into_iter()
        .filter(|it| query.wants(&it.tags) && !(it.disabled && query.hides_inactive()));
    let answer: Vec<ServerRead> = shown.map(ServerRead::from).collect();
    Ok(Json(answer).into_response())
}

pub(crate) async fn create(
    State(services): State<Services>,
    Extension(caller): Who,
    body: Bytes,
) -> Result<Response, RestError> {
    caller.require(Permission::RegistryWrite)?;
    let mut create: ServerCreate = body::read(&body, "server")?;
    let unknown = |text: String| Ok(detail(StatusCode::BAD_REQUEST, text).into_response());
    if let Some(text) = create.unknown_member() {
        return unknown(text);
    }
    let draft = create.draft()?;
    let made =
        services.registry.create_virtual_server(&caller, draft, WriteOptions::default()).await;
    match made {
        Ok(server) => Ok((StatusCode::CREATED, Json(ServerRead::from(server))).into_response()),
        // A member that does not exist is 400 for ContextForge, not 422.
        Err(Error::Invalid(invalid)) if invalid.field.ends_with(']') => {
            unknown(invalid.to_string())
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn read(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    let server = services.registry.get_virtual_server(&caller, &id).await?;
    Ok(Json(ServerRead::from(server)).into_response())
}

pub(crate) async fn delete(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    services.registry.delete_virtual_server(&caller, &id, None, WriteOptions::default()).await?;
    Ok(shapes::deleted("Server", &id).into_response())
}
