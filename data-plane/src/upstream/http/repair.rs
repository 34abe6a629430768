//! Calls whose headers a modern upstream does not take, because its list marks other parameters
//! than it did when the catalog was read (MCP 2026-07-28, custom headers from tool parameters).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{Answer, Attempt, HttpUpstream};
use crate::{
    discovery,
    mcp::{Capabilities, code, mirror::MirrorParam},
    snapshot::table::ToolEntry,
    target::{Asked, Target},
    upstream::{Call, Lister, era::Handshake, failure::CallFailure, fetch::Bounds},
};

/// How long the upstream may take to list its tools again.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long that counts; meanwhile the catalog is read again.
const REMEMBER: Duration = Duration::from_secs(10);
/// How long it counts that the upstream did not say.
const REMEMBER_SILENCE: Duration = Duration::from_secs(1);

/// What tools were found to want as headers, and until when that counts. Held while an upstream
/// lists its tools, so that many calls lead to one look.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<Option<(Instant, Mirrored)>>);

/// Of every tool; of none if the upstream did not say.
type Mirrored = BTreeMap<Box<str>, Box<[MirrorParam]>>;

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
        let wanted = bounds.within(self.wanted_now(tool.original_name(), spoken)).await?;
        let Some(mirrored) = wanted.filter(|wanted| *wanted != tool.mirrored) else {
            return Err(failure);
        };
        let entry = ToolEntry { mirrored, ..ToolEntry::clone(tool) };
        let target = Target { asked: Asked::Tool(Arc::new(entry)), ..call.target.clone() };
        let call = Call { target, ..call.clone() };
        match self.attempt(spoken, &call, bounds).await? {
            Attempt::Answered(answer) | Attempt::OtherEra(answer) => Ok(answer),
            Attempt::SessionLost => Err(CallFailure::SessionLost),
        }
    }

    /// What the definition of a tool asks for now; `None` if that is not known.
    async fn wanted_now(&self, tool: &str, spoken: &Handshake) -> Option<Box<[MirrorParam]>> {
        let mut known = self.wanted.0.lock().await;
        known.take_if(|(until, _)| *until <= Instant::now());
        if let Some((_, mirrored)) = &*known {
            return mirrored.get(tool).cloned();
        }
        let lister =
            Lister::Modern(Arc::clone(&self.endpoint), spoken.clone(), Capabilities::all());
        let listing = discovery::mirrored_now(&lister, &self.endpoint.limits);
        let (counts_for, mirrored) = match tokio::time::timeout(LIST_TIMEOUT, listing).await {
            Ok(Ok(mirrored)) => (REMEMBER, mirrored),
            Ok(Err(failure)) => {
                tracing::debug!(tool, %failure, "its headers cannot be found out");
                (REMEMBER_SILENCE, Mirrored::new())
            }
            Err(_) => {
                tracing::debug!(tool, "its headers cannot be found out in time");
                (REMEMBER_SILENCE, Mirrored::new())
            }
        };
        let wanted = mirrored.get(tool).cloned();
        *known = Some((Instant::now() + counts_for, mirrored));
        wanted
    }
}
