//! 2026-07-28: every request stands alone, and a client that goes away cancels.

use std::sync::Arc;

use http::HeaderValue;

use super::{Inbound, Outbound, Served, rounds::Rounds};
use crate::{
    error::Failure,
    exchange::Owner,
    mcp::{Level, level::Wanted, version},
    route::{self, Plan, RouteError},
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
            if let Some(headers) = inbound.sender.headers {
                version::check_param_headers(target.mirrored(), &inbound.message, |name| {
                    headers.get(name).map(HeaderValue::as_bytes)
                })?;
            }
            let session = SessionKey::Principal {
                subject: Arc::clone(&inbound.sender.principal.subject),
                capabilities: client.capabilities.bits(),
            };
            let permit = inbound.admit()?;
            let rounds = match target.upstream_id() {
                Some(upstream) => Rounds::of(&inbound.sender, &inbound.message, upstream),
                None => None,
            };
            if let Some(opened) = rounds.as_ref().map(Rounds::open).transpose()?.flatten() {
                inbound.message = opened;
            }
            let owner = Owner::Request { rounds: rounds.map(Box::new) };
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
