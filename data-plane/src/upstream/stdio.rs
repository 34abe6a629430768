//! An MCP server as a child process, for all clients or for one session each.

use std::{sync::Arc, time::Duration};

use proto::{Era, upstream::StdioMode};
use tokio::{runtime::Handle, time::Instant};

use super::{
    failure::CallFailure,
    fetch::Bounds,
    pipe::{Connection, Fresh, Guard, Link, Wanted, refusal},
    room::{Claim, Place, Room},
    spawner::{Program, Spawner},
};

/// How long a child may take to start, downloads by `npx` and `uvx` included.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a child waits for the end of another in whose place it comes. Twice as long as one
/// takes that has to be killed.
const PLACE_TIMEOUT: Duration = Duration::from_secs(8);

/// The way to a child of an upstream.
#[derive(Debug)]
pub(crate) struct Stdio {
    spawner: Arc<Spawner>,
    program: Program,
    mode: StdioMode,
    /// For the children of this upstream.
    room: Room,
}

impl Stdio {
    /// At most `places_max` children run at a time.
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        program: Program,
        mode: StdioMode,
        places_max: usize,
    ) -> Self {
        Self { spawner, program, mode, room: Room::new(places_max) }
    }

    /// Whether all clients share one child.
    pub(crate) fn is_shared(&self) -> bool {
        self.mode == StdioMode::Shared
    }

    /// Where children are started.
    pub(crate) fn runtime(&self) -> &Handle {
        self.spawner.handle()
    }

    /// Starts a child and finds out what it speaks. Runs on the spawner's thread.
    pub(crate) async fn open(&self, wanted: Wanted) -> Result<Link, CallFailure> {
        let claims = Arc::new(self.claim()?);
        let places = self.places(&claims).await?;
        let bounds = Bounds::of_step(&wanted.limits, START_TIMEOUT);
        let child = self.spawn(&wanted, bounds, (Arc::clone(&claims), places))?;
        if wanted.era == Some(Era::Legacy) {
            return child.greet_legacy().await;
        }
        let child = match child.probe().await {
            Ok(Some(handshake)) => return Ok(child.link(handshake)),
            Ok(None) => child,
            // Some legacy servers end when the first message is not `initialize`.
            Err(CallFailure::Exited(_)) => {
                drop(child);
                let places = self.places(&claims).await?;
                self.spawn(&wanted, bounds, (claims, places))?
            }
            Err(failure) => return Err(failure),
        };
        let handshake = child.initialize().await?.map_err(refusal)?;
        Ok(child.link(handshake))
    }

    fn spawn(
        &self,
        wanted: &Wanted,
        bounds: Bounds,
        (claims, places): (Arc<[Claim; 2]>, [Place; 2]),
    ) -> Result<Fresh, CallFailure> {
        let (connection, input) = Connection::new(Arc::clone(&wanted.health), wanted.owner.clone());
        let running = self
            .spawner
            .spawn(&self.program, input, Arc::clone(&connection), places)
            .map_err(|error| not_spawned(&self.program.command, &error))?;
        let guard = Guard::Child { _running: running, _claims: claims };
        Ok(Fresh { connection, guard, bounds, declared: wanted.declared.clone() })
    }

    /// Whether no child more can be started.
    pub(crate) fn is_full(&self) -> bool {
        self.room.is_full() || self.spawner.room.is_full()
    }

    /// The right to a place among the children of this upstream and to one among those of the
    /// proxy.
    fn claim(&self) -> Result<[Claim; 2], CallFailure> {
        let claim = self.room.claim().ok_or(CallFailure::TooManyChildren(self.room.max()))?;
        let all = &self.spawner.room;
        Ok([claim, all.claim().ok_or(CallFailure::ProxyFull(all.max()))?])
    }

    /// The places themselves, when those that had them before are gone.
    async fn places(&self, [own, all]: &[Claim; 2]) -> Result<[Place; 2], CallFailure> {
        let end = Instant::now() + PLACE_TIMEOUT;
        let own = tokio::time::timeout_at(end, own.place()).await.ok().flatten();
        // What cannot even be killed has it still.
        let own = own.ok_or(CallFailure::TooManyChildren(self.room.max()))?;
        let all = tokio::time::timeout_at(end, all.place()).await.ok().flatten();
        let all = all.ok_or(CallFailure::ProxyFull(self.spawner.room.max()))?;
        // The children that ended may have ended with the proxy.
        if self.spawner.is_stopping() { Err(CallFailure::Gone) } else { Ok([own, all]) }
    }
}

fn not_spawned(command: &str, error: &std::io::Error) -> CallFailure {
    let advice = match error.kind() {
        std::io::ErrorKind::NotFound => {
            ": is it installed on this host and in PATH, and does the working directory exist?"
        }
        std::io::ErrorKind::PermissionDenied => ": is it executable?",
        _ => "",
    };
    CallFailure::Spawn(format!("`{command}`: {error}{advice}"))
}

#[cfg(test)]
mod tests;
