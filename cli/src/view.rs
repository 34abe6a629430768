//! Objects as they are shown: in tables, and as JSON and YAML that `apply` takes back.

use std::collections::BTreeMap;

use proto::wire;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::Row;

pub(crate) mod entry;
mod system;
mod transport;

pub(crate) use system::{ProxyView, StatusView, TokenView};

use transport::TransportView;

#[derive(Serialize)]
pub(crate) struct UpstreamView {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(flatten)]
    transport: TransportView,
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    disabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_summary: Option<CredentialView>,
    status: UpstreamStatusView,
    resource_version: u64,
    create_time: String,
    update_time: String,
}

#[derive(Serialize)]
struct CredentialView {
    kind: String,
    names: Vec<String>,
    fingerprint: String,
}

#[derive(Serialize)]
struct UpstreamStatusView {
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    protocol_version: String,
    tool_count: u32,
    prompt_count: u32,
    resource_count: u32,
    resource_template_count: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    discovered_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    checked_time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

impl From<wire::Upstream> for UpstreamView {
    fn from(upstream: wire::Upstream) -> Self {
        let catalog_scope =
            (upstream.catalog_scope() == wire::CatalogScope::Principal).then_some("principal");
        let transport = upstream.transport.map(TransportView::from).unwrap_or_default();
        Self {
            kind: "upstream",
            name: upstream.name,
            title: upstream.title,
            description: upstream.description,
            transport,
            catalog_scope,
            disabled: upstream.disabled,
            tags: upstream.tags,
            id: upstream.id,
            credential_summary: credential(upstream.credential_summary),
            status: upstream.status.unwrap_or_default().into(),
            resource_version: upstream.resource_version,
            create_time: time(upstream.create_time_ms),
            update_time: time(upstream.update_time_ms),
        }
    }
}

impl From<wire::UpstreamStatus> for UpstreamStatusView {
    fn from(status: wire::UpstreamStatus) -> Self {
        let era = match status.era() {
            wire::Era::Unspecified => None,
            wire::Era::Legacy => Some("legacy"),
            wire::Era::Modern => Some("modern"),
        };
        Self {
            phase: phase(status.phase()),
            reason: proto::upstream::FailureReason::from_wire(status.reason)
                .map(proto::upstream::FailureReason::as_str),
            era,
            tool_count: status.tool_count,
            prompt_count: status.prompt_count,
            resource_count: status.resource_count,
            resource_template_count: status.resource_template_count,
            discovered_time: time(status.discovered_time_ms),
            checked_time: time(status.checked_time_ms),
            message: status.message,
            protocol_version: status.protocol_version,
            notices: status.notices,
        }
    }
}

/// The word for a phase.
pub(crate) fn phase(phase: wire::UpstreamPhase) -> &'static str {
    match phase {
        wire::UpstreamPhase::Unspecified | wire::UpstreamPhase::Pending => "pending",
        wire::UpstreamPhase::Ready => "ready",
        wire::UpstreamPhase::Failed => "failed",
        wire::UpstreamPhase::Disabled => "disabled",
    }
}

impl Row for UpstreamView {
    const HEADERS: &'static [&'static str] = &["NAME", "PHASE", "TOOLS", "ERA", "TARGET"];

    fn cells(&self) -> Vec<String> {
        let phase = match self.status.reason {
            Some(reason) => format!("{} ({reason})", self.status.phase),
            None => self.status.phase.to_owned(),
        };
        let transport = &self.transport;
        let target = if transport.command.is_empty() {
            transport.url.clone()
        } else {
            format!("{} {}", transport.command, transport.args.join(" "))
        };
        vec![
            self.name.clone(),
            phase,
            self.status.tool_count.to_string(),
            self.status.era.unwrap_or("-").to_owned(),
            shorten(&target, 70),
        ]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
pub(crate) struct ToolView {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    upstream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    original_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    method: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "is_false")]
    disabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs_client_capabilities: Vec<String>,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_summary: Option<CredentialView>,
    resource_version: u64,
    create_time: String,
    update_time: String,
}

impl From<wire::Tool> for ToolView {
    fn from(tool: wire::Tool) -> Self {
        let rest = tool.rest.unwrap_or_default();
        Self {
            kind: "tool",
            name: tool.name,
            upstream: tool.upstream,
            original_name: tool.original_name,
            title: tool.title,
            description: tool.description,
            url: rest.url,
            method: rest.method,
            headers: rest.headers.into_iter().collect(),
            input_schema: RawValue::from_string(tool.input_schema).ok(),
            output_schema: RawValue::from_string(tool.output_schema).ok(),
            annotations: RawValue::from_string(tool.annotations).ok(),
            disabled: tool.disabled,
            tags: tool.tags,
            needs_client_capabilities: tool.needs_client_capabilities,
            id: tool.id,
            credential_summary: credential(tool.credential_summary),
            resource_version: tool.resource_version,
            create_time: time(tool.create_time_ms),
            update_time: time(tool.update_time_ms),
        }
    }
}

impl Row for ToolView {
    const HEADERS: &'static [&'static str] = &["NAME", "FROM", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        let from = if self.upstream.is_empty() {
            format!("{} {}", self.method, self.url)
        } else {
            self.upstream.clone()
        };
        let first_line = self.description.lines().next().unwrap_or_default();
        vec![self.name.clone(), shorten(&from, 40), shorten(first_line, 60)]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
pub(crate) struct ServerView {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    upstreams: Vec<String>,
    tools: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
    naming: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon: String,
    #[serde(skip_serializing_if = "is_false")]
    disabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    id: String,
    /// Path on every proxy.
    endpoint: String,
    resource_version: u64,
    create_time: String,
    update_time: String,
}

impl From<wire::VirtualServer> for ServerView {
    fn from(server: wire::VirtualServer) -> Self {
        Self {
            kind: "server",
            naming: proto::virtual_server::Naming::from_wire(server.naming).as_str(),
            endpoint: format!("/servers/{}/mcp", server.name),
            name: server.name,
            title: server.title,
            description: server.description,
            upstreams: server.upstreams,
            tools: server.tools,
            prompts: server.prompts,
            resources: server.resources,
            icon: server.icon,
            disabled: server.disabled,
            tags: server.tags,
            id: server.id,
            resource_version: server.resource_version,
            create_time: time(server.create_time_ms),
            update_time: time(server.update_time_ms),
        }
    }
}

impl Row for ServerView {
    const HEADERS: &'static [&'static str] = &["NAME", "UPSTREAMS", "TOOLS", "NAMING", "ENDPOINT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            shorten(&self.upstreams.join(","), 40),
            shorten(&self.tools.join(","), 40),
            self.naming.to_owned(),
            self.endpoint.clone(),
        ]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

fn credential(summary: Option<wire::CredentialSummary>) -> Option<CredentialView> {
    let summary = summary.filter(|summary| !summary.kind.is_empty())?;
    Some(CredentialView {
        kind: summary.kind,
        names: summary.names,
        fingerprint: summary.fingerprint,
    })
}

/// RFC 3339 of Unix milliseconds; empty for "never".
fn time(ms: i64) -> String {
    if ms == 0 {
        return String::new();
    }
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.trim_end().to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
