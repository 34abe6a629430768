//! What the proxy counts and times, under the names of OpenTelemetry's MCP conventions.
//!
//! Nothing here takes a lock that requests share, and no label comes from a client.

mod histogram;
mod runtimes;
mod scrape;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

pub(crate) use self::scrape::Gauges;
use self::{histogram::Histogram, runtimes::Runtimes};
use crate::{error::Failure, mcp::method::Method};

/// All metrics of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    operations: Operations,
    pub(super) connections: AtomicI64,
    pub(super) calls: AtomicI64,
    refused: [AtomicU64; REFUSALS.len()],
    runtimes: Runtimes,
}

/// One histogram for each method, version and outcome that occurs.
#[derive(Debug)]
struct Operations(Vec<OnceLock<Box<Histogram>>>);

const METHODS: [&str; 12] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "_other",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
];
const VERSIONS: [&str; 6] =
    ["", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
/// Values of `error_type`; the first means success.
const OUTCOMES: [&str; 11] = [
    "",
    "-32600",
    "-32601",
    "-32602",
    "-32603",
    "-32020",
    "-32021",
    "-32022",
    "cancelled",
    "timeout",
    "_other",
];
/// Values of `reason` of requests that end before they are operations.
pub(crate) const REFUSALS: [&str; 9] = [
    "configuration",
    "host",
    "origin",
    "authentication",
    "limit",
    "media_type",
    "session",
    "path",
    "message",
];

impl Default for Operations {
    fn default() -> Self {
        let count = METHODS.len() * VERSIONS.len() * OUTCOMES.len();
        Self(std::iter::repeat_with(OnceLock::new).take(count).collect())
    }
}

impl Telemetry {
    /// Begins to time an operation; `version` is empty if it is not known.
    pub(crate) fn operation(self: &Arc<Self>, method: &Method, version: &str) -> Operation {
        self.calls.fetch_add(1, Relaxed);
        Operation(Some(Timing {
            telemetry: Arc::clone(self),
            method: method_label(method),
            version: VERSIONS.iter().position(|name| *name == version).unwrap_or(0),
            start: Instant::now(),
        }))
    }

    /// Counts a connection while the guard lives.
    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Relaxed);
        self.runtimes.note();
        Connection(Arc::clone(self))
    }

    /// The tasks on the runtime of whoever calls this count, too.
    pub(crate) fn works_here(&self) {
        self.runtimes.note();
    }

    /// Counts a request that ended before it was an operation.
    pub(crate) fn refused(&self, failure: &Failure) {
        let reason = failure.refusal();
        let at = REFUSALS.iter().position(|name| *name == reason);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn record(&self, timing: &Timing, outcome: usize) {
        let at = (timing.method * VERSIONS.len() + timing.version) * OUTCOMES.len() + outcome;
        if let Some(cell) = self.operations.0.get(at) {
            cell.get_or_init(Box::default).record(timing.start.elapsed());
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Telemetry>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// One operation being timed. Whoever drops it without a verdict was cancelled.
#[derive(Debug)]
pub(crate) struct Operation(Option<Timing>);

#[derive(Debug)]
struct Timing {
    telemetry: Arc<Telemetry>,
    method: usize,
    version: usize,
    start: Instant,
}

impl Operation {
    /// Nothing to time.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn succeed(&mut self) {
        self.end("");
    }

    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.end(failure.error_type());
    }

    /// Moves the timing to another owner.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    fn end(&mut self, error_type: &str) {
        if let Some(timing) = self.0.take() {
            timing.telemetry.calls.fetch_sub(1, Relaxed);
            let outcome = OUTCOMES.iter().position(|name| *name == error_type);
            timing.telemetry.record(&timing, outcome.unwrap_or(OUTCOMES.len() - 1));
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.end("cancelled");
    }
}

fn method_label(method: &Method) -> usize {
    match method {
        Method::Initialize => 0,
        Method::Ping => 1,
        Method::Discover => 2,
        Method::ToolsList => 3,
        Method::ToolsCall => 4,
        Method::PromptsList => 6,
        Method::PromptsGet => 7,
        Method::ResourcesList => 8,
        Method::ResourceTemplatesList => 9,
        Method::ResourcesRead => 10,
        Method::Complete => 11,
        Method::SetLevel
        | Method::Subscribe
        | Method::Unsubscribe
        | Method::TasksGet
        | Method::TasksResult
        | Method::TasksList
        | Method::TasksUpdate
        | Method::TasksCancel
        | Method::Listen
        | Method::Initialized
        | Method::Cancelled
        | Method::Progress
        | Method::LogMessage
        | Method::ToolsListChanged
        | Method::Unknown(_) => 5,
    }
}
