//! 2026-07-28: every request stands alone, and a client that goes away cancels.

mod listening;

use std::sync::Arc;

use http::HeaderValue;

use super::{
    Inbound, Outbound, Sender, Served,
    rounds::{Opened, Rounds},
};
use crate::{
    error::Failure,
    exchange::{Exchange, Owner},
    mcp::{Capabilities, Level, Message, level::Wanted, mirror, response, version},
    route::{self, Plan, RouteError},
    target::{Asked, Target},
    task_id::TaskId,
    telemetry::Operation,
    upstream::SessionKey,
};

/// Serves a message whose envelope is right.
pub(crate) fn serve(inbound: Inbound<'_>, client: route::Client) -> Result<Served, Failure> {
    let mut operation = inbound.operation(client.version.as_str());
    match inbound.plan(client) {
        Err(failure) => {
            operation.fail(&failure);
            Err(failure)
        }
        Ok(Plan::Reply(answer)) => {
            operation.succeed();
            Ok(Served::Answer(answer))
        }
        Ok(Plan::Forward { target }) => {
            let is_tool = target.as_tool().is_some();
            let id = inbound.id();
            match forward(inbound, client, target, &mut operation) {
                Err(failure) => {
                    operation.fail(&failure);
                    // What a model reads, so that it can call again.
                    if let (Failure::ParkedLost | Failure::NotVisited, true) = (&failure, is_tool) {
                        failure.log();
                        let result = response::tool_error(&failure.to_string());
                        return Ok(Served::Answer(response::answer(&id, result)));
                    }
                    Err(failure)
                }
                served => served,
            }
        }
        Ok(Plan::Listen { topics, resources }) => {
            operation.succeed();
            listening::listen(&inbound, client, topics, resources)
        }
        // What a modern client says in a notification, it says by closing the stream too.
        Ok(
            Plan::Accept
            | Plan::Cancel { .. }
            | Plan::Progress
            | Plan::RootsChanged
            | Plan::Notify { .. },
        ) => Ok(Served::Accepted),
        Ok(Plan::Answer) => Err(RouteError::UnexpectedResponse.into()),
        Ok(Plan::Initialize { .. } | Plan::SetLevel { .. } | Plan::Subscribe { .. }) => {
            Err(Failure::Internal("a modern client was served as a legacy one"))
        }
    }
}

/// The proxy at which a call waits for this request, or which keeps the task that it names.
pub(crate) fn holder(
    sender: &Sender<'_>,
    message: &Message,
    client: route::Client,
) -> Option<Box<str>> {
    let Sender { table, principal, .. } = sender;
    let view = sender.view().ok()?;
    let plan = route::plan((table, view), principal, message, client);
    let Ok(Plan::Forward { target }) = plan else {
        // It may mean what its sender alone is shown.
        let mut private = view.private_upstreams().iter();
        return private.find_map(|it| parked_at(sender, message, (&it.id, client.capabilities)));
    };
    if let Asked::Task { sealed, .. } = &target.asked {
        return TaskId::keeper(table.session_keys(), &principal.subject, sealed);
    }
    parked_at(sender, message, (target.upstream_id()?, client.capabilities))
}

/// The proxy at which a call to this upstream waits for a request.
fn parked_at(
    sender: &Sender<'_>,
    message: &Message,
    upstream: (&str, Capabilities),
) -> Option<Box<str>> {
    let rounds = Rounds::of(sender, message, upstream)?;
    match rounds.open(sender.now_ms).ok()? {
        Opened::Parked { proxy_id, .. } => Some(proxy_id),
        Opened::Nothing | Opened::Given(_) | Opened::Visited { .. } => None,
    }
}

/// Hands a request to its upstream, or its input to the call that waits for it.
fn forward(
    mut inbound: Inbound<'_>,
    client: route::Client,
    mut target: Target,
    operation: &mut Operation,
) -> Result<Served, Failure> {
    if let Some(headers) = inbound.sender.headers {
        version::check_param_headers(target.mirrored(), &inbound.message, |name| {
            headers.get(name).map(HeaderValue::as_bytes)
        })?;
        if let Asked::Extension { mirrored, .. } = &mut target.asked {
            let name = headers.get("mcp-name").map(HeaderValue::as_bytes);
            *mirrored = name.and_then(|name| mirror::of_params(name, &inbound.message));
        }
    }
    let upstream = target.upstream_id().map(|id| (id, client.capabilities));
    let mut rounds =
        upstream.and_then(|upstream| Rounds::of(&inbound.sender, &inbound.message, upstream));
    let now_ms = inbound.sender.now_ms;
    let opened = rounds.as_ref().map_or(Ok(Opened::Nothing), |rounds| rounds.open(now_ms))?;
    let permit = inbound.admit()?;
    match opened {
        Opened::Nothing => (),
        Opened::Given(message) => inbound.message = *message,
        Opened::Visited { times } => {
            let again = rounds.as_mut().map(|rounds| rounds.visited(times, &inbound.message));
            inbound.message = again.unwrap_or(Err(Failure::ParkedLost))?;
        }
        Opened::Parked { proxy_id, id } => {
            let rounds = rounds.filter(|_| *proxy_id == *inbound.sender.edge.proxy_id());
            let mut rounds = rounds.ok_or(Failure::ParkedLost)?;
            let events = rounds.resume(&id, &inbound.message)?;
            let owner = Owner::Request { rounds: Some(Box::new(rounds)) };
            let ends = (inbound.id(), owner);
            return Ok(Served::Relay(Exchange::resumed(events, ends, operation.take(), permit)));
        }
    }
    let session = SessionKey::Principal {
        subject: Arc::clone(&inbound.sender.principal.subject),
        capabilities: client.capabilities.bits(),
    };
    let meta = inbound.message.params().map(|params| &params.meta);
    let level = meta.and_then(|meta| meta.log_level.as_ref()?.as_str());
    let logs = level.and_then(Level::find).map_or(Wanted::Nothing, Wanted::From);
    let owner = Owner::Request { rounds: rounds.map(Box::new) };
    let operation = operation.take();
    let tasks = inbound.tasks(&target, client, None);
    let written = None;
    let outbound =
        Outbound { target, client, written, logs, session, owner, operation, permit, tasks };
    Ok(inbound.forward(outbound))
}
