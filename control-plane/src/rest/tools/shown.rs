//! A tool as ContextForge's clients read it.

use std::collections::BTreeMap;

use proto::{
    ToolName,
    name::slug,
    tool::{Definition, Tool, ToolSource},
    upstream::{Phase, Transport, Upstream},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::rest::{
    credential::MaskedAuth,
    gateways::transport_word,
    shapes::{Metrics, Provenance, time},
};

/// A tool as it is read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolRead {
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
                let transport = upstream.map(|upstream| &upstream.transport);
                let url = transport.and_then(Transport::url).map(ToString::to_string);
                let request_type = transport.map_or("STREAMABLEHTTP", transport_word);
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
    pub(super) fn of(tool: Tool, upstream: Option<&Upstream>) -> Self {
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
