//! Prompts and resources as they are shown.

use proto::wire;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{shorten, time};
use crate::output::Row;

#[derive(Serialize)]
pub(crate) struct PromptView {
    kind: &'static str,
    name: String,
    upstream: String,
    original_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs_client_capabilities: Vec<String>,
    id: String,
    resource_version: u64,
    create_time: String,
    update_time: String,
}

impl From<wire::Prompt> for PromptView {
    fn from(prompt: wire::Prompt) -> Self {
        Self {
            kind: "prompt",
            name: prompt.name,
            upstream: prompt.upstream,
            original_name: prompt.original_name,
            title: prompt.title,
            description: prompt.description,
            arguments: RawValue::from_string(prompt.arguments).ok(),
            needs_client_capabilities: prompt.needs_client_capabilities,
            id: prompt.id,
            resource_version: prompt.resource_version,
            create_time: time(prompt.create_time_ms),
            update_time: time(prompt.update_time_ms),
        }
    }
}

impl Row for PromptView {
    const HEADERS: &'static [&'static str] = &["NAME", "FROM", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.upstream.clone(), first_line(&self.description)]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
pub(crate) struct ResourceView {
    kind: &'static str,
    /// URI of a resource, or template.
    #[serde(skip)]
    address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uri: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uri_template: String,
    upstream: String,
    #[serde(rename = "name")]
    label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mime_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs_client_capabilities: Vec<String>,
    id: String,
    resource_version: u64,
    create_time: String,
    update_time: String,
}

impl From<wire::CatalogResource> for ResourceView {
    fn from(resource: wire::CatalogResource) -> Self {
        let is_template = !resource.uri_template.is_empty();
        let (kind, address) = if is_template {
            ("resource-template", resource.uri_template.clone())
        } else {
            ("resource", resource.uri.clone())
        };
        Self {
            kind,
            address,
            uri: resource.uri,
            uri_template: resource.uri_template,
            upstream: resource.upstream,
            label: resource.name,
            title: resource.title,
            description: resource.description,
            mime_type: resource.mime_type,
            needs_client_capabilities: resource.needs_client_capabilities,
            id: resource.id,
            resource_version: resource.resource_version,
            create_time: time(resource.create_time_ms),
            update_time: time(resource.update_time_ms),
        }
    }
}

impl Row for ResourceView {
    const HEADERS: &'static [&'static str] = &["URI", "FROM", "NAME", "TYPE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.clone(),
            self.upstream.clone(),
            shorten(&self.label, 40),
            self.mime_type.clone(),
        ]
    }

    fn name(&self) -> &str {
        &self.address
    }
}

fn first_line(text: &str) -> String {
    shorten(text.lines().next().unwrap_or_default(), 60)
}
