//! `/tools`: REST tools made here, and what gateways offer.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
};
use proto::{
    Invalid, ToolName,
    name::slug,
    tool::{Definition, Tool, ToolDraft, ToolSource},
    upstream::{Phase, Transport, Upstream},
    wire,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    caller::Caller,
    error::Error,
    registry::WriteOptions,
    rest::{
        body::{self, Listed},
        credential::{AuthFields, MaskedAuth},
        error::RestError,
        shapes::{self, Listing, Metrics, Provenance, Who, time},
    },
    services::Services,
};

/// A tool as it is written.
#[derive(Debug, Deserialize)]
struct ToolCreate {
    name: Option<String>,
    #[serde(alias = "displayName", alias = "display_name")]
    title: Option<String>,
    url: Option<String>,
    description: Option<String>,
    #[serde(alias = "integrationType")]
    integration_type: Option<String>,
    #[serde(alias = "requestType")]
    request_type: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    #[serde(alias = "inputSchema")]
    input_schema: Option<Box<RawValue>>,
    #[serde(alias = "outputSchema")]
    output_schema: Option<Box<RawValue>>,
    annotations: Option<Box<RawValue>>,
    #[serde(alias = "jsonpathFilter")]
    jsonpath_filter: Option<String>,
    tags: Option<Listed>,
    auth: Option<AuthFields>,
    #[serde(flatten)]
    auth_fields: HashMap<String, Value>,
}

impl ToolCreate {
    fn draft(self) -> Result<ToolDraft, Invalid> {
        let called = body::called::<ToolName>(self.name)?;
        if self.jsonpath_filter.is_some_and(|filter| !filter.trim().is_empty()) {
            return Err(Invalid::new("jsonpath_filter", "is not served yet"));
        }
        match self.integration_type.as_deref().unwrap_or("REST") {
            "REST" => (),
            "MCP" => {
                let problem = "cannot be MCP: register the MCP server at /gateways";
                return Err(Invalid::new("integration_type", problem));
            }
            _ => return Err(Invalid::new("integration_type", "must be REST")),
        }
        let auth = match self.auth {
            Some(auth) => auth,
            None => auth_fields(self.auth_fields)?,
        };
        let raw = |json: Option<Box<RawValue>>| {
            json.map(|json| json.get().to_owned()).filter(|json| json != "null")
        };
        ToolDraft::try_from(wire::Tool {
            name: called.name,
            title: self.title.unwrap_or(called.title),
            description: self.description.unwrap_or_default(),
            input_schema: raw(self.input_schema).unwrap_or_default(),
            output_schema: raw(self.output_schema).unwrap_or_default(),
            annotations: raw(self.annotations).filter(|json| json != "{}").unwrap_or_default(),
            rest: Some(wire::RestBinding {
                url: self.url.ok_or_else(|| Invalid::missing("url"))?,
                method: self.request_type.unwrap_or_default().to_uppercase(),
                headers: self.headers.unwrap_or_default(),
            }),
            credential: auth.credential()?,
            tags: self.tags.map(Listed::items).unwrap_or_default(),
            ..wire::Tool::default()
        })
    }
}

/// The `auth_*` fields among those left over.
fn auth_fields(fields: HashMap<String, Value>) -> Result<AuthFields, Invalid> {
    let fields = fields.into_iter().filter(|(name, _)| name.starts_with("auth"));
    let fields = Value::Object(fields.collect());
    serde_json::from_value(fields).map_err(|error| Invalid::new("auth_type", error.to_string()))
}

/// A tool as it is read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolRead {
    id: String,
    original_name: String,
    name: String,
    custom_name: String,
    custom_name_slug: String,
    gateway_slug: String,
    display_name: Option<String>,
    url: Option<String>,
    description: String,
    request_type: String,
    integration_type: &'static str,
    headers: Option<BTreeMap<String, String>>,
    input_schema: Option<Box<RawValue>>,
    output_schema: Option<Box<RawValue>>,
    annotations: Value,
    jsonpath_filter: &'static str,
    auth: Option<MaskedAuth>,
    created_at: Option<String>,
    updated_at: Option<String>,
    enabled: bool,
    reachable: bool,
    gateway_id: Option<String>,
    execution_count: u64,
    metrics: Metrics,
    tags: Vec<String>,
    #[serde(flatten)]
    provenance: Provenance,
}

/// What depends on where a tool comes from.
struct Origin {
    original_name: String,
    name: String,
    gateway_slug: String,
    url: Option<String>,
    request_type: String,
    integration_type: &'static str,
    headers: Option<BTreeMap<String, String>>,
    reachable: bool,
    gateway_id: Option<String>,
}

impl Origin {
    fn of(name: &ToolName, source: ToolSource, upstream: Option<&Upstream>) -> Self {
        match source {
            ToolSource::Rest(binding) => Self {
                original_name: name.to_string(),
                name: name.to_string(),
                gateway_slug: String::new(),
                url: Some(binding.url),
                request_type: binding.method.as_str().to_owned(),
                integration_type: "REST",
                headers: Some(binding.headers).filter(|headers| !headers.is_empty()),
                reachable: true,
                gateway_id: None,
            },
            ToolSource::Upstream { id, name: gateway, original_name } => {
                let gateway_slug = slug(gateway.as_str());
                let (url, request_type) = match upstream.map(|upstream| &upstream.transport) {
                    Some(Transport::Http { url }) => (Some(url.to_string()), "STREAMABLEHTTP"),
                    Some(Transport::Stdio(_)) => (None, "STDIO"),
                    None => (None, "STREAMABLEHTTP"),
                };
                Self {
                    name: format!("{gateway_slug}-{}", slug(&original_name)),
                    original_name,
                    gateway_slug,
                    url,
                    request_type: request_type.to_owned(),
                    integration_type: "MCP",
                    headers: None,
                    reachable: upstream.is_some_and(|it| it.status.phase == Phase::Ready),
                    gateway_id: Some(id),
                }
            }
        }
    }
}

impl ToolRead {
    fn of(tool: Tool, upstream: Option<&Upstream>) -> Self {
        let Tool {
            id,
            name,
            source,
            definition,
            credential,
            disabled,
            tags,
            needs_client_capabilities: _,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = tool;
        let shown = Definition::of(&definition);
        let annotations = shown.annotations.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let auth = MaskedAuth::of(credential.as_ref());
        let origin = Origin::of(&name, source, upstream);
        Self {
            id,
            custom_name_slug: slug(&origin.original_name),
            custom_name: origin.original_name.clone(),
            original_name: origin.original_name,
            name: origin.name,
            gateway_slug: origin.gateway_slug,
            display_name: shown.title,
            url: origin.url,
            description: shown.description.unwrap_or_default(),
            request_type: origin.request_type,
            integration_type: origin.integration_type,
            headers: origin.headers,
            input_schema: shown.input_schema.map(ToOwned::to_owned),
            output_schema: shown.output_schema.map(ToOwned::to_owned),
            annotations: annotations.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            jsonpath_filter: "",
            auth: Some(auth).filter(MaskedAuth::is_set),
            created_at: time(create_time_ms),
            updated_at: time(update_time_ms),
            enabled: !disabled,
            reachable: origin.reachable,
            gateway_id: origin.gateway_id,
            execution_count: 0,
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
    let tools = shapes::all(|page| registry.list_tools(&caller, None, page)).await?;
    let upstreams = shapes::all(|page| registry.list_upstreams(&caller, page)).await?;
    let upstreams: HashMap<&str, &Upstream> =
        upstreams.iter().map(|upstream| (upstream.id.as_str(), upstream)).collect();
    let shown = tools.into_iter().filter(|tool| query.shows(tool.disabled, &tool.tags));
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
