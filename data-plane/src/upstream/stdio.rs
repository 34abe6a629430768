//! An MCP server as a child process, for all clients or for one session each.

use std::{sync::Arc, time::Duration};

use proto::{Era, upstream::StdioMode};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    failure::CallFailure,
    fetch::Bounds,
    pipe::{Connection, Fresh, Guard, Link, Wanted, refusal},
    spawner::{Program, Spawner},
};

/// How long a child may take to start, downloads by `npx` and `uvx` included.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// The way to a child of an upstream.
#[derive(Debug)]
pub(crate) struct Stdio {
    spawner: Arc<Spawner>,
    program: Program,
    mode: StdioMode,
    /// For so many children.
    places: Arc<Semaphore>,
    places_max: usize,
}

impl Stdio {
    /// At most `places_max` children run at a time.
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        program: Program,
        mode: StdioMode,
        places_max: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(places_max));
        Self { spawner, program, mode, places, places_max }
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
        let bounds = Bounds::of_step(&wanted.limits, START_TIMEOUT);
        let child = self.spawn(&wanted, bounds)?;
        if wanted.era == Some(Era::Legacy) {
            return child.greet_legacy().await;
        }
        let child = match child.probe().await {
            Ok(Some(handshake)) => return Ok(child.link(handshake)),
            Ok(None) => child,
            // Some legacy servers end when the first message is not `initialize`.
            Err(CallFailure::Exited(_)) => {
                drop(child);
                self.spawn(&wanted, bounds)?
            }
            Err(failure) => return Err(failure),
        };
        let handshake = child.initialize().await?.map_err(refusal)?;
        Ok(child.link(handshake))
    }

    fn spawn(&self, wanted: &Wanted, bounds: Bounds) -> Result<Fresh, CallFailure> {
        let place = self.place()?;
        let (connection, input) = Connection::new(Arc::clone(&wanted.health), wanted.owner.clone());
        let running = self
            .spawner
            .spawn(&self.program, input, Arc::clone(&connection))
            .map_err(|error| not_spawned(&self.program.command, &error))?;
        let guard = Guard::Child { _running: running, _places: place };
        Ok(Fresh { connection, guard, bounds, declared: wanted.declared.clone() })
    }

    /// Whether no child more can be started.
    pub(crate) fn is_full(&self) -> bool {
        self.places.available_permits() == 0 || self.spawner.is_full()
    }

    /// A place among the children of this upstream and one among those of the proxy.
    fn place(&self) -> Result<[OwnedSemaphorePermit; 2], CallFailure> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| CallFailure::TooManyChildren(self.places_max))?;
        let other = self.spawner.place();
        Ok([place, other.ok_or(CallFailure::ProxyFull(self.spawner.places_max))?])
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
