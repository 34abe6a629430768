//! 2026-07-28: every request stands alone, and a client that goes away cancels.

use std::sync::Arc;

use http::{HeaderValue, Response};

use super::{Inbound, Outbound, accepted};
use crate::{
    error::Failure,
    exchange::Owner,
    mcp::version,
    route::{self, Plan},
    transport::{body::Body, response},
    upstream::SessionKey,
};

/// Serves a message whose envelope is right.
pub(crate) async fn serve(
    inbound: Inbound<'_>,
    client: route::Client,
) -> Result<Response<Body>, Failure> {
    let mut operation = inbound.operation(client.version.as_str());
    match inbound.plan(client) {
        Err(failure) => {
            operation.fail(&failure);
            Err(failure)
        }
        Ok(Plan::Reply(answer)) => {
            let response = response::message(inbound.accepts, answer);
            operation.succeed();
            Ok(response)
        }
        Ok(Plan::Forward { tool }) => {
            let headers = inbound.sender.headers;
            version::check_param_headers(&tool.mirrored, &inbound.message, |name| {
                headers.get(name).map(HeaderValue::as_bytes)
            })?;
            let session = SessionKey::Principal {
                subject: Arc::clone(&inbound.sender.principal.subject),
                capabilities: client.capabilities.bits(),
            };
            let permit = inbound.admit()?;
            let owner = Owner::Request;
            let outbound = Outbound { tool, client, session, owner, operation, permit };
            Ok(inbound.forward(outbound).await)
        }
        // What a modern client says in a notification, it says by closing the stream too.
        Ok(Plan::Accept | Plan::Cancel { .. }) => Ok(accepted()),
        Ok(Plan::Initialize { .. }) => Err(Failure::Internal("a modern client was initialized")),
    }
}
