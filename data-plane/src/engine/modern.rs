//! 2026-07-28: every request stands alone, and a client that goes away cancels.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;

use super::{Inbound, Outbound, accepted};
use crate::{
    error::Failure,
    exchange::Owner,
    mcp::{code, version},
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
            Ok(with_pinned_status(inbound.forward(outbound).await))
        }
        // What a modern client says in a notification, it says by closing the stream too.
        Ok(Plan::Accept | Plan::Cancel { .. }) => Ok(accepted()),
        Ok(Plan::Initialize { .. }) => Err(Failure::Internal("a modern client was initialized")),
    }
}

/// Gives an upstream's "capability missing" the status that the revision pins to it (MCP
/// 2026-07-28, transports); all other errors of upstreams stay in band.
fn with_pinned_status(mut response: Response<Body>) -> Response<Body> {
    if let Body::Whole(body) = response.body()
        && is_missing_capability(body)
    {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

fn is_missing_capability(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        error: Option<Code>,
    }
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    /// No such error is longer, and no long result need be searched.
    const LONGEST: usize = 16 * 1024;
    if body.len() > LONGEST || memchr::memmem::find(body, b"-32021").is_none() {
        return false;
    }
    let envelope = serde_json::from_slice::<Envelope>(body).ok();
    envelope
        .and_then(|it| it.error)
        .is_some_and(|error| error.code == code::MISSING_CLIENT_CAPABILITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_error_itself_counts_as_a_missing_capability() {
        assert!(is_missing_capability(br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32021}}"#));
        assert!(!is_missing_capability(br#"{"jsonrpc":"2.0","id":1,"result":{"code":-32021}}"#));
        assert!(!is_missing_capability(
            br#"{"jsonrpc":"2.0","id":-32021,"error":{"code":-32603}}"#
        ));
    }
}
