//! Reads the catalog of one upstream: its era, its handshake and all pages of its tools.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use proto::{Catalog, CatalogTool, tool::Definition, upstream::FailureReason};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    mcp::{Message, mirror::mirror_params, response::quote},
    snapshot::table::Table,
    upstream::{Active, Bounds, CallFailure, Limits, Lister, Step, Upstreams, error_of, result_of},
};

const PAGES_MAX: usize = 100;
const TOOLS_MAX: usize = 10_000;
/// How long an upstream may take for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A failure with the step that it happened in.
type Failed = (FailureReason, String);

/// Reads the catalog of an upstream within `deadline`. The error says what to do.
pub async fn discover(
    upstreams: &Arc<Upstreams>,
    table: &Arc<Table>,
    upstream_id: &str,
    deadline: Duration,
) -> Result<Catalog, Failed> {
    let active = upstreams.find(upstream_id).filter(|_| table.upstreams.contains_key(upstream_id));
    let Some(active) = active else {
        let message = format!("this proxy does not know the upstream `{upstream_id}` yet");
        return Err((FailureReason::NoProxy, message));
    };
    let limits = Limits { call_timeout: deadline, ..Limits::default() };
    let reading = tokio::time::timeout(deadline, read(&active, &limits)).await;
    let result = reading.unwrap_or(Err((Step::Initialize, CallFailure::TooLong(deadline))));
    let noted = result.as_ref().map(|_| ()).map_err(|(_, failure)| failure.clone());
    active.health().note(&noted);
    result.map_err(|(step, failure)| explain(&active, step, &failure))
}

async fn read(active: &Active, limits: &Limits) -> Result<Catalog, (Step, CallFailure)> {
    let lister = active.lister().await.map_err(|failure| (Step::Initialize, failure))?;
    let handshake = lister.handshake();
    let tools = if offers_tools(&handshake.capabilities) {
        tools(&lister, active.name(), limits).await.map_err(|failure| (Step::List, failure))?
    } else {
        Vec::new()
    };
    Ok(Catalog {
        era: handshake.era,
        protocol_version: handshake.version.clone(),
        server_info: handshake.server_info.clone(),
        capabilities: handshake.capabilities.clone(),
        instructions: handshake.instructions.clone(),
        tools,
    })
}

fn offers_tools(capabilities: &str) -> bool {
    #[derive(Deserialize)]
    struct Capabilities<'a> {
        #[serde(borrow)]
        tools: Option<&'a RawValue>,
    }
    serde_json::from_str::<Capabilities<'_>>(capabilities)
        .is_ok_and(|capabilities| capabilities.tools.is_some())
}

/// One page of `tools/list`; definitions stay as they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

async fn tools(
    lister: &Lister,
    upstream: &str,
    limits: &Limits,
) -> Result<Vec<CatalogTool>, CallFailure> {
    let mut tools = Vec::new();
    let mut names = BTreeSet::new();
    let mut cursors = BTreeSet::new();
    let mut members = String::new();
    for _ in 0..PAGES_MAX {
        let bounds = Bounds::of_step(limits, PAGE_TIMEOUT.min(limits.call_timeout));
        let answer = lister.ask("tools/list", &members, &bounds).await?;
        let page = page(&answer)?;
        for definition in page.tools {
            match tool(definition, lister) {
                Ok(tool) if names.insert(tool.name.clone()) => tools.push(tool),
                Ok(tool) => tracing::warn!(upstream, tool = tool.name, "tool is listed twice"),
                Err(problem) => tracing::warn!(upstream, problem, "left out a tool"),
            }
        }
        if tools.len() > TOOLS_MAX {
            return Err(unusable(format!("more than {TOOLS_MAX} tools")));
        }
        // The empty string is a cursor like any other.
        let Some(cursor) = page.next_cursor else { return Ok(tools) };
        members = format!("\"cursor\":{}", quote(&cursor));
        if !cursors.insert(cursor) {
            return Err(unusable("a cursor that it gave before".to_owned()));
        }
    }
    Err(unusable(format!("more than {PAGES_MAX} pages")))
}

fn unusable(what: String) -> CallFailure {
    CallFailure::NotJsonRpc(format!("its tools/list has {what}"))
}

fn page(answer: &Message) -> Result<Page<'_>, CallFailure> {
    if let Some(error) = error_of(answer) {
        let what = format!("error {}: {}", error.code, error.message);
        return Err(CallFailure::NotJsonRpc(format!("tools/list gave {what}")));
    }
    serde_json::from_str(result_of(answer).unwrap_or_default())
        .map_err(|error| unusable(format!("no list of tools: {error}")))
}

/// A tool as it is listed, unless clients must not be shown it.
fn tool(definition: &RawValue, lister: &Lister) -> Result<CatalogTool, String> {
    let text = definition.get();
    let read = Definition::of(text);
    if read.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    let schema = read.input_schema.map_or("{}", RawValue::get);
    if lister.is_http() {
        mirror_params(schema).map_err(|problem| format!("{}: {problem}", read.name))?;
    }
    Ok(CatalogTool {
        name: read.name,
        definition: text.to_owned(),
        needs_client_capabilities: Vec::new(),
    })
}

/// What went wrong and what to do about it.
fn explain(active: &Active, step: Step, failure: &CallFailure) -> Failed {
    let reason = failure.reason(step);
    let advice = match reason {
        FailureReason::Dns => "check the host in its URL",
        FailureReason::Egress => "use an address that may be reached from a gateway",
        FailureReason::Connect => "check that it runs and that host and port in its URL are right",
        FailureReason::Tls => "check its certificate, or use http if it does not speak TLS",
        FailureReason::HttpStatus => "check the path in its URL",
        FailureReason::Auth => "give the upstream the credential that it wants",
        FailureReason::Spawn => "check command, arguments and environment",
        FailureReason::Initialize => "check that the URL or command is an MCP server",
        FailureReason::List => "the server has to be repaired",
        FailureReason::Timeout => "check the server, then `lockgate refresh upstream`",
        FailureReason::NoProxy => "check that a proxy that can reach it is connected",
    };
    (reason, format!("upstream `{}` {failure}; {advice}", active.name()))
}

#[cfg(test)]
mod tests;
