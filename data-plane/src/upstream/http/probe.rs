//! Asks an HTTP upstream which era it speaks (MCP 2026-07-28, versioning: backwards compatibility).

use std::{sync::Arc, time::Duration};

use proto::Era;

use super::endpoint::Endpoint;
use crate::upstream::{
    era::{self, Handshake, Verdict},
    failure::CallFailure,
    fetch::Bounds,
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends `server/discover`. A legacy verdict says only that `initialize` is worth a try.
pub(super) async fn probe(endpoint: &Arc<Endpoint>) -> Result<Handshake, CallFailure> {
    let bounds = Bounds::of_step(&endpoint.limits, PROBE_TIMEOUT);
    let headers = endpoint.modern_headers("server/discover", None);
    let asked = endpoint.ask(Era::Modern, headers, ("server/discover", ""), &bounds).await;
    let legacy = Handshake::remembered(Era::Legacy, "");
    let asked = match asked {
        Ok(asked) => asked,
        // An answer that nobody can read is no modern one.
        Err(CallFailure::WrongId | CallFailure::NotJsonRpc(_)) => return Ok(legacy),
        Err(failure) => return Err(failure),
    };
    let status = asked.status;
    if matches!(status.as_u16(), 401 | 403) {
        return Err(CallFailure::Auth { status: status.as_u16() });
    }
    match asked.message {
        Ok(answer) => match era::judge(&answer) {
            Verdict::Modern(handshake) => Ok(handshake),
            Verdict::Legacy => Ok(legacy),
            Verdict::Incompatible(versions) => Err(CallFailure::Incompatible(versions)),
        },
        // A broken server says nothing about its era.
        Err(failure) if status.is_server_error() => Err(failure),
        Err(
            failure @ (CallFailure::Silent(_) | CallFailure::TooLong(_) | CallFailure::Broken(_)),
        ) => Err(failure),
        Err(_) => Ok(legacy),
    }
}
