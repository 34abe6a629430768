//! Calls whose headers a modern upstream does not take, because its list marks other parameters
//! than it did when the catalog was read (MCP 2026-07-28, custom headers from tool parameters).

use std::{sync::Arc, time::Duration};

use super::{Answer, Attempt, HttpUpstream};
use crate::{
    discovery,
    mcp::{Capabilities, code},
    snapshot::table::ToolEntry,
    target::{Asked, Target},
    upstream::{Call, Lister, era::Handshake, failure::CallFailure, fetch::Bounds},
};

/// How long the upstream may take to list its tools again.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a call failed before it ran, for its headers.
pub(super) fn is_mismatch(failure: &CallFailure) -> bool {
    matches!(failure, CallFailure::Refused { code: code::HEADER_MISMATCH, .. })
}

impl HttpUpstream {
    /// Makes a call that `failure` says was refused for its headers once more, with those that the
    /// tool's definition asks for now.
    pub(super) async fn repair(
        &self,
        call: &Call,
        bounds: Bounds,
        spoken: &Handshake,
        failure: CallFailure,
    ) -> Result<Answer, CallFailure> {
        self.endpoint.health.catalog_is_stale();
        let Some(tool) = call.target.as_tool() else { return Err(failure) };
        let lister =
            Lister::Modern(Arc::clone(&self.endpoint), spoken.clone(), Capabilities::all());
        let limits = &self.endpoint.limits;
        let listing = discovery::mirrored_now(&lister, tool.original_name(), limits);
        let mirrored = match tokio::time::timeout(LIST_TIMEOUT, listing).await {
            Ok(Ok(Some(mirrored))) if mirrored != tool.mirrored => mirrored,
            Ok(_) | Err(_) => return Err(failure),
        };
        let entry = ToolEntry { mirrored, ..ToolEntry::clone(tool) };
        let target = Target { asked: Asked::Tool(Arc::new(entry)), ..call.target.clone() };
        let call = Call { target, ..call.clone() };
        match self.attempt(spoken, &call, bounds).await? {
            Attempt::Answered(answer) | Attempt::OtherEra(answer) => Ok(answer),
            Attempt::SessionLost => Err(CallFailure::SessionLost),
        }
    }
}
