//! Reads the catalog of one upstream: its era, its handshake and all pages of all its lists.

mod listing;
mod needs;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::{Catalog, resource::UpstreamResource, tool::Definition, upstream::FailureReason};
use serde_json::value::RawValue;

pub(crate) use self::needs::Remembered;
use self::{
    listing::Listing,
    needs::{Everybody, Source},
};
use crate::{
    mcp::{
        Capabilities, beyond,
        mirror::{MirrorParam, mirror_params},
    },
    snapshot::table::{PrivateCatalog, Table},
    upstream::{Active, CallFailure, Limits, Lister, Step, Upstreams},
};

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

/// How long a private catalog is kept whose upstream does not say how long it may be, and what is
/// the least and the most of those that do.
const TTL: Duration = Duration::from_mins(1);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_mins(5);

/// Reads what an upstream shows to one caller, as who `lister` asks.
pub(crate) async fn read_private(
    lister: &Lister,
    upstream: &UpstreamResource,
    limits: &Limits,
) -> Result<PrivateCatalog, CallFailure> {
    // In the modern era nobody says on the way what there is.
    let capabilities = match lister {
        Lister::Modern(..) => &upstream.capabilities,
        Lister::Session(..) | Lister::Pipe(..) => &lister.handshake().capabilities,
    };
    let who = (lister, upstream.name.as_str());
    let read = Listing::read_within(who, capabilities, limits, &listing::FOR_ONE).await;
    let (Listing { tools, entries }, ttl_ms) = read?;
    let ttl = ttl_ms.map_or(TTL, Duration::from_millis).clamp(TTL_MIN, TTL_MAX);
    let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
    Ok(PrivateCatalog { tools, entries, ttl_ms, is_of_all: lister.is_of_all() })
}

/// Which parameters of each tool, by its name, the upstream wants as headers now.
pub(crate) async fn mirrored_now(
    lister: &Lister,
    limits: &Limits,
) -> Result<BTreeMap<Box<str>, Box<[MirrorParam]>>, CallFailure> {
    let read = Listing::read_within((lister, ""), r#"{"tools":{}}"#, limits, &listing::FOR_ALL);
    let (Listing { tools, .. }, _) = read.await?;
    let mirrored = tools.into_iter().filter_map(|it| {
        let schema = Definition::of(&it.definition).input_schema.map_or("{}", RawValue::get);
        Some((it.name.into(), mirror_params(schema).ok()?.into()))
    });
    Ok(mirrored.collect())
}

async fn read(active: &Active, limits: &Limits) -> Result<Catalog, (Step, CallFailure)> {
    // As a client that can do all that we can pass on: what it sees, somebody may see.
    let lister = active.lister(Capabilities::all()).await;
    let lister = lister.map_err(|failure| (Step::Initialize, failure))?;
    let handshake = lister.handshake();
    let is_used = lister.is_used();
    let listing = Listing::read(&lister, active.name(), limits).await;
    let rich = listing.map_err(|failure| (Step::List, failure))?;
    let source = match lister.is_child_of_legacy_era() {
        false => Source::Session,
        true if active.is_shared() => Source::Shared { is_used },
        true => Source::Process,
    };
    let everybody = Everybody { active, limits, source };
    let Listing { tools, entries } = everybody.sort(rich).await;
    Ok(Catalog {
        era: handshake.era,
        protocol_version: handshake.version.clone(),
        server_info: handshake.server_info.clone(),
        capabilities: beyond::kept(&handshake.capabilities).into_owned(),
        instructions: handshake.instructions.clone(),
        tools,
        entries,
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
        FailureReason::Incompatible => "what it offers is not listed until it speaks one of them",
    };
    (reason, format!("upstream `{}` {failure}; {advice}", active.name()))
}

#[cfg(test)]
mod tests;
