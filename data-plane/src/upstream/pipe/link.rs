//! A pipe that is ready for calls, and the greeting that makes it so: `server/discover`, then
//! `initialize` (MCP 2026-07-28, versioning; a pipe serves one era for its whole life).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::Era;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::connection::Connection;
use crate::{
    mcp::{
        Capabilities, Declared, Level, Message,
        feature::{Feature, Features},
    },
    upstream::{
        era::{self, Handshake, Speech, Uninitialized, Verdict},
        failure::CallFailure,
        fetch::Bounds,
        room::Claim,
        spawner::Running,
    },
};

/// After this silence `initialize` is sent on the same pipe too. A child is not
/// started anew, because silence usually means that it is still being downloaded.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What ends when the pipe is dropped.
#[derive(Debug)]
pub(crate) enum Guard {
    /// A child, with its claims to places among the children.
    Child { _running: Running, _claims: Arc<[Claim; 2]> },
    /// The tasks of a connection.
    Tasks { _stop: DropGuard },
}

/// A pipe that is ready for calls. Dropped with its last call, then it is closed.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Arc<Connection>,
    pub(crate) handshake: Handshake,
    pub(super) since: Instant,
    guard: Guard,
    /// The least severe level that anybody asked for.
    level: Mutex<Option<Level>>,
}

impl Link {
    /// Asks for log messages from `level` on, unless they come already.
    pub(crate) fn want_logs(&self, level: Level) -> Result<(), CallFailure> {
        let mut last = self.level.lock();
        let is_logging = || Features::read(&self.handshake.capabilities).has(Feature::Logging);
        let is_enough = match *last {
            // Of others, somebody may want more.
            Some(last) if self.connection.is_of_one_client() => last == level,
            Some(last) => last <= level,
            None => false,
        };
        if is_enough || !is_logging() {
            return Ok(());
        }
        *last = Some(level);
        let members = format!(r#""level":"{}""#, level.as_str());
        // Its answer tells nothing; on a pipe it comes before that of the call.
        self.connection.say("logging/setLevel", &members)
    }

    /// Sends a request of our own and waits for its answer. A modern server is told the
    /// capabilities.
    pub(crate) async fn ask(
        &self,
        capabilities: Capabilities,
        question: (&str, &str),
        bounds: &Bounds,
    ) -> Result<Message, CallFailure> {
        let speech = match self.handshake.era {
            Era::Legacy => Speech::Legacy,
            Era::Modern => Speech::Modern(capabilities),
        };
        self.connection.ask(speech, question, bounds).await
    }

    /// Whether everybody's calls are made on it.
    pub(crate) fn is_of_all(&self) -> bool {
        self.connection.is_of_all()
    }

    /// Whether it is a process.
    pub(crate) fn is_child(&self) -> bool {
        matches!(self.guard, Guard::Child { .. })
    }
}

/// A pipe whose era is not known yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) connection: Arc<Connection>,
    pub(crate) guard: Guard,
    pub(crate) bounds: Bounds,
    /// What is declared to a legacy server.
    pub(crate) declared: Declared,
}

impl Fresh {
    /// The link, once the handshake is done.
    pub(crate) fn link(self, handshake: Handshake) -> Link {
        let Self { connection, guard, bounds: _, declared: _ } = self;
        if handshake.has_batches() {
            connection.take_batches();
        }
        Link { connection, handshake, since: Instant::now(), guard, level: Mutex::default() }
    }

    /// Greets a server that is known to be legacy.
    pub(crate) async fn greet_legacy(self) -> Result<Link, CallFailure> {
        match self.initialize().await? {
            Ok(handshake) => Ok(self.link(handshake)),
            // It changed its era since it was last seen.
            Err(Uninitialized::IsModern) => match self.probe().await? {
                Some(handshake) => Ok(self.link(handshake)),
                None => Err(refusal(Uninitialized::IsModern)),
            },
            Err(other) => Err(refusal(other)),
        }
    }

    /// Asks `server/discover`, and after a silence `initialize` too: whatever it answers
    /// counts. `None`: it is legacy and wants to be initialized.
    pub(crate) async fn probe(&self) -> Result<Option<Handshake>, CallFailure> {
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

    async fn ask(&self, era: Era, method: &str, members: &str) -> Result<Message, CallFailure> {
        self.connection.ask(era, (method, members), &self.bounds).await
    }

    async fn initialize_late(&self) -> Result<Result<Handshake, Uninitialized>, CallFailure> {
        tokio::time::sleep(PROBE_TIMEOUT).await;
        self.initialize().await
    }

    /// The handshake of the legacy era.
    pub(crate) async fn initialize(&self) -> Result<Result<Handshake, Uninitialized>, CallFailure> {
        let members = era::initialize_members(self.declared.clone());
        let answer = self.ask(Era::Legacy, "initialize", &members).await?;
        let handshake = era::initialized(&answer);
        if handshake.is_ok() {
            self.connection.notify(era::INITIALIZED.into())?;
        }
        Ok(handshake)
    }
}

/// Why there is no link, for people.
pub(crate) fn refusal(refusal: Uninitialized) -> CallFailure {
    match refusal {
        Uninitialized::IsModern => {
            CallFailure::Initialize("it wants another protocol version in either era".to_owned())
        }
        Uninitialized::Refused(why) => CallFailure::Initialize(why),
        Uninitialized::Incompatible(version) => CallFailure::Incompatible(version),
    }
}
