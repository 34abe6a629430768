//! Starts a child and finds out what it speaks: `server/discover` first, then `initialize`
//! (mcp versioning; a child serves one era for its whole life).

use std::{sync::Arc, time::Duration};

use proto::Era;
use tokio::sync::broadcast;

use super::{Link, StdioUpstream, connection::Connection};
use crate::{
    mcp::{Capabilities, Message},
    upstream::{
        audience::Stage,
        era::{self, Handshake, Uninitialized, Verdict},
        failure::CallFailure,
        fetch::Bounds,
        health::Health,
        spawner::Running,
    },
};

/// How long a child may take to start, downloads by `npx` and `uvx` included.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// After this silence `initialize` is sent on the same pipe too. The child is not
/// started anew, because silence usually means that it is still being downloaded.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the same may take for a look at a catalog; by then it was downloaded.
const GLIMPSE_TIMEOUT: Duration = Duration::from_secs(20);

/// A child whose era is not known yet.
struct Child {
    connection: Arc<Connection>,
    running: Running,
    bounds: Bounds,
}

/// Starts the child. Runs on the spawner's thread.
pub(super) async fn start(
    upstream: Arc<StdioUpstream>,
    known: Option<Era>,
) -> Result<Link, CallFailure> {
    let bounds = Bounds::of_step(&upstream.limits, START_TIMEOUT);
    let child = spawn(&upstream, bounds)?;
    if known == Some(Era::Legacy) {
        return match child.initialize().await? {
            Ok(handshake) => Ok(child.link(handshake)),
            // It changed its era since it was last seen.
            Err(Uninitialized::IsModern) => match child.probe().await? {
                Some(handshake) => Ok(child.link(handshake)),
                None => Err(refusal(Uninitialized::IsModern)),
            },
            Err(other) => Err(refusal(other)),
        };
    }
    let child = match child.probe().await {
        Ok(Some(handshake)) => return Ok(child.link(handshake)),
        Ok(None) => child,
        // Some legacy servers end when the first message is not `initialize`.
        Err(CallFailure::Exited(_)) => {
            drop(child);
            spawn(&upstream, bounds)?
        }
        Err(failure) => return Err(failure),
    };
    let handshake = child.initialize().await?.map_err(refusal)?;
    Ok(child.link(handshake))
}

/// Starts a legacy child of its own, for one look at what it shows to a client with these
/// capabilities. What it says besides is told to nobody. Runs on the spawner's thread.
pub(super) async fn glimpse(
    upstream: Arc<StdioUpstream>,
    capabilities: Capabilities,
) -> Result<Link, CallFailure> {
    let bounds = Bounds::of_step(&upstream.limits, GLIMPSE_TIMEOUT);
    let (unheard, _) = broadcast::channel(1);
    let health = Arc::new(Health::new(String::new(), unheard, Stage::default()));
    let child = spawn_with(&upstream, health, bounds)?;
    let handshake = child.initialize_as(capabilities).await?.map_err(refusal)?;
    Ok(child.link(handshake))
}

fn spawn(upstream: &StdioUpstream, bounds: Bounds) -> Result<Child, CallFailure> {
    spawn_with(upstream, Arc::clone(&upstream.health), bounds)
}

fn spawn_with(
    upstream: &StdioUpstream,
    health: Arc<Health>,
    bounds: Bounds,
) -> Result<Child, CallFailure> {
    let (connection, input) = Connection::new(health);
    let running = upstream
        .spawner
        .spawn(&upstream.program, input, Arc::clone(&connection))
        .map_err(|error| not_spawned(&upstream.program.command, &error))?;
    Ok(Child { connection, running, bounds })
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

fn refusal(refusal: Uninitialized) -> CallFailure {
    match refusal {
        Uninitialized::IsModern => {
            CallFailure::Initialize("it wants another protocol version in either era".to_owned())
        }
        Uninitialized::Refused(why) => CallFailure::Initialize(why),
        Uninitialized::Incompatible(version) => CallFailure::Incompatible(version),
    }
}

impl Child {
    fn link(self, handshake: Handshake) -> Link {
        let Self { connection, running, bounds: _ } = self;
        Link { connection, handshake, since: tokio::time::Instant::now(), _running: running }
    }

    async fn ask(&self, era: Era, method: &str, members: &str) -> Result<Message, CallFailure> {
        self.connection.ask(era, (method, members), &self.bounds).await
    }

    /// Asks `server/discover`, and after a silence `initialize` too: whatever it answers
    /// counts. `None`: it is legacy and wants to be initialized.
    async fn probe(&self) -> Result<Option<Handshake>, CallFailure> {
        let discover = self.ask(Era::Modern, "server/discover", "");
        tokio::pin!(discover);
        let answer = tokio::select! {
            answer = &mut discover => answer?,
            outcome = self.initialize_late() => match outcome? {
                Ok(handshake) => return Ok(Some(handshake)),
                // Only a modern server says so; then it answers the probe as well.
                Err(Uninitialized::IsModern) => discover.await?,
                Err(other) => return Err(refusal(other)),
            },
        };
        match era::judge(&answer) {
            Verdict::Modern(handshake) => Ok(Some(handshake)),
            Verdict::Legacy => Ok(None),
            Verdict::Incompatible(versions) => Err(CallFailure::Incompatible(versions)),
        }
    }

    async fn initialize_late(&self) -> Result<Result<Handshake, Uninitialized>, CallFailure> {
        tokio::time::sleep(PROBE_TIMEOUT).await;
        self.initialize().await
    }

    async fn initialize(&self) -> Result<Result<Handshake, Uninitialized>, CallFailure> {
        // It serves many clients, so what one of them lacks is refused in its name.
        self.initialize_as(Capabilities::all()).await
    }

    async fn initialize_as(
        &self,
        capabilities: Capabilities,
    ) -> Result<Result<Handshake, Uninitialized>, CallFailure> {
        let members = era::initialize_members(capabilities);
        let answer = self.ask(Era::Legacy, "initialize", &members).await?;
        let handshake = era::initialized(&answer);
        if handshake.is_ok() {
            self.connection.notify(era::INITIALIZED.into())?;
        }
        Ok(handshake)
    }
}
