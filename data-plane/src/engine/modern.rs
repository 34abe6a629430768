//! 2026-07-28: every request stands alone, and a client that goes away cancels.

use std::sync::Arc;

use http::HeaderValue;

use super::{Inbound, Outbound, Served, rounds::Rounds};
use crate::{
    error::Failure,
    exchange::Owner,
    limit::Permit,
    mcp::{Level, level::Wanted, version},
    route::{self, Plan, RouteError},
    target::Target,
    upstream::SessionKey,
};

/// Serves a message whose envelope is right.
pub(crate) fn serve(mut inbound: Inbound<'_>, client: route::Client) -> Result<Served, Failure> {
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
            let (owner, permit) = match ready(&mut inbound, &target) {
                Ok(ready) => ready,
                Err(failure) => {
                    operation.fail(&failure);
                    return Err(failure);
                }
            };
            let session = SessionKey::Principal {
                subject: Arc::clone(&inbound.sender.principal.subject),
                capabilities: client.capabilities.bits(),
            };
            let meta = inbound.message.params().map(|params| &params.meta);
            let level = meta.and_then(|meta| meta.log_level.as_ref()?.as_str());
            let logs = level.and_then(Level::find).map_or(Wanted::Nothing, Wanted::From);
            let outbound = Outbound { target, client, logs, session, owner, operation, permit };
            Ok(inbound.forward(outbound))
        }
        // What a modern client says in a notification, it says by closing the stream too.
        Ok(Plan::Accept | Plan::Cancel { .. } | Plan::Progress | Plan::RootsChanged) => {
            Ok(Served::Accepted)
        }
        Ok(Plan::Answer) => Err(RouteError::UnexpectedResponse.into()),
        Ok(Plan::Initialize { .. } | Plan::SetLevel { .. } | Plan::Subscribe { .. }) => {
            Err(Failure::Internal("a modern client was served as a legacy one"))
        }
    }
}

/// Checks what only the target can tell, takes a place among the calls, and gives the upstream
/// back the state that it wanted back.
fn ready(inbound: &mut Inbound<'_>, target: &Target) -> Result<(Owner, Permit), Failure> {
    if let Some(headers) = inbound.sender.headers {
        version::check_param_headers(target.mirrored(), &inbound.message, |name| {
            headers.get(name).map(HeaderValue::as_bytes)
        })?;
    }
    let upstream = target.upstream_id();
    let rounds = upstream.and_then(|id| Rounds::of(&inbound.sender, &inbound.message, id));
    if let Some(opened) = rounds.as_ref().map(Rounds::open).transpose()?.flatten() {
        inbound.message = opened;
    }
    let permit = inbound.admit()?;
    Ok((Owner::Request { rounds: rounds.map(Box::new) }, permit))
}
