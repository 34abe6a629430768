//! `/tools`: REST tools made here, and what gateways offer.

mod shown;
mod written;

use std::collections::HashMap;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
};
use proto::{
    Permission,
    tool::{Tool, ToolSource},
    upstream::Upstream,
};
use shown::ToolRead;
use written::ToolCreate;

use crate::{
    caller::Caller,
    error::Error,
    registry::WriteOptions,
    rest::{
        body,
        error::RestError,
        shapes::{self, Listing, Who},
    },
    services::Services,
};

pub(crate) async fn list(
    State(services): State<Services>,
    Extension(caller): Who,
    Query(query): Listing,
) -> Result<Response, RestError> {
    let registry = &services.registry;
    let tools = shapes::all(|page| registry.list_tools(&caller, None, page)).await?;
    let upstreams = shapes::all(|page| registry.list_upstreams(&caller, page)).await?;
    let upstreams: HashMap<&str, &Upstream> =
        upstreams.iter().map(|upstream| (upstream.id.as_str(), upstream)).collect();
    let shown = tools
        .into_iter()
        .filter(|tool| query.wants(&tool.tags) && !(tool.disabled && query.hides_inactive()));
    let answer: Vec<ToolRead> = shown
        .map(|tool| {
            let upstream = gateway_id(&tool).and_then(|id| upstreams.get(id).copied());
            ToolRead::of(tool, upstream)
        })
        .collect();
    Ok(Json(answer).into_response())
}

fn gateway_id(tool: &Tool) -> Option<&str> {
    match &tool.source {
        ToolSource::Upstream { id, .. } => Some(id),
        ToolSource::Rest(_) => None,
    }
}

/// ContextForge answers 200 here, not 201.
pub(crate) async fn create(
    State(services): State<Services>,
    Extension(caller): Who,
    body: Bytes,
) -> Result<Response, RestError> {
    caller.require(Permission::RegistryWrite)?;
    let create: ToolCreate = body::read(&body, "tool")?;
    let draft = create.draft()?;
    let tool = services.registry.create_tool(&caller, draft, WriteOptions::default()).await?;
    Ok(Json(ToolRead::of(tool, None)).into_response())
}

pub(crate) async fn read(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    let tool = services.registry.get_tool(&caller, &id).await?;
    let upstream = upstream_of(&services, &caller, &tool).await?;
    Ok(Json(ToolRead::of(tool, upstream.as_ref())).into_response())
}

async fn upstream_of(
    services: &Services,
    caller: &Caller,
    tool: &Tool,
) -> Result<Option<Upstream>, Error> {
    match gateway_id(tool) {
        Some(id) => services.registry.get_upstream(caller, id).await.map(Some),
        None => Ok(None),
    }
}

pub(crate) async fn delete(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    services.registry.delete_tool(&caller, &id, None, WriteOptions::default()).await?;
    Ok(shapes::deleted("Tool", &id).into_response())
}
