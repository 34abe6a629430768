//! A session at a legacy upstream, ended with DELETE when nobody holds it any more
//! (MCP 2025-11-25, transports).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use proto::Era;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{
    aside::Asides,
    endpoint::{Asked, Endpoint, SESSION_ID, VERSION},
    is_session_lost, listening,
    whole::is_of_call,
};
use crate::{
    mcp::{
        Declared, Level,
        feature::{Feature, Features},
        notice::cancelled,
    },
    upstream::{
        SessionKey,
        audience::Said,
        era::{self, Handshake, Uninitialized},
        failure::CallFailure,
        fetch::Bounds,
    },
};

/// How long an upstream may take to initialize.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first call waits for the stream of what belongs to no call.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an upstream may take to change its log level.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// One session. Dropping the last handle ends it at the upstream.
#[derive(Debug)]
pub(crate) struct Session {
    endpoint: Arc<Endpoint>,
    /// The template with session id and version.
    pub(crate) headers: HeaderMap,
    pub(crate) handshake: Handshake,
    /// The upstream does not know it any more: there is nothing to end.
    is_lost: AtomicBool,
    owner: OnceLock<SessionKey>,
    /// Reads what the upstream says outside of calls.
    listening: OnceLock<AbortOnDropHandle<()>>,
    /// The level that log messages were asked from, last.
    level: Mutex<Option<Level>>,
    /// Calls that are asked what the upstream asks beside them.
    pub(super) asides: Asides,
}

impl Session {
    /// Runs the handshake for a client that declares this.
    pub(crate) async fn open(
        endpoint: Arc<Endpoint>,
        declared: Declared,
    ) -> Result<Self, CallFailure> {
        let bounds = Bounds::of_step(&endpoint.limits, OPEN_TIMEOUT);
        let members = era::initialize_members(declared);
        let headers = endpoint.template().clone();
        let asked = endpoint.ask(Era::Legacy, headers, ("initialize", &members), &bounds).await?;
        if matches!(asked.status.as_u16(), 401 | 403) {
            return Err(CallFailure::Auth { status: asked.status.as_u16() });
        }
        let handshake = era::initialized(&asked.message?).map_err(refusal)?;
        let mut headers = endpoint.template().clone();
        if let Some(id) = asked.headers.get(SESSION_ID) {
            let mut id = id.clone();
            id.set_sensitive(true);
            headers.insert(SESSION_ID, id);
        }
        if let Ok(version) = HeaderValue::from_str(&handshake.version) {
            headers.insert(VERSION, version);
        }
        let session = Self {
            endpoint,
            headers,
            handshake,
            is_lost: AtomicBool::new(false),
            owner: OnceLock::new(),
            listening: OnceLock::new(),
            level: Mutex::default(),
            asides: Asides::default(),
        };
        let initialized = Bytes::from_static(era::INITIALIZED.as_bytes());
        let headers = session.headers.clone();
        // Some servers do not take the notification; calls will tell whether that matters.
        let accepted = session.endpoint.post(headers, initialized, &bounds).await?;
        if !accepted.status().is_success() {
            tracing::debug!(status = %accepted.status(), "an upstream refused `initialized`");
        }
        Ok(session)
    }

    /// Hears, from now on, what the upstream says outside of the calls of `key`. Waits until the
    /// upstream has answered, so that what it asks during the first call is not lost; not for
    /// long, since it may answer only when there is something to say.
    pub(crate) async fn listen(self: &Arc<Self>, key: SessionKey) {
        self.owner.set(key.clone()).ok();
        let (opening, opened) = oneshot::channel();
        self.listening.get_or_init(|| listening::listen(self, key, opening));
        tokio::time::timeout(LISTEN_TIMEOUT, opened).await.ok();
    }

    /// Passes on, to whose session it is, what belongs to no call.
    pub(crate) fn pass_on(&self, said: Said) {
        if let Some(owner) = self.owner.get() {
            self.endpoint.health.say(owner, said);
        }
    }

    /// Whether the upstream answered that it does not know the session.
    pub(crate) fn is_lost_by(&self, asked: &Asked) -> bool {
        let said = match &asked.message {
            Ok(message)
                if is_of_call(asked.status, message.body(), message.id().unwrap_or(b"")) =>
            {
                return false;
            }
            Ok(message) => &message.body()[..],
            Err(CallFailure::HttpStatus { excerpt, .. }) => excerpt.as_bytes(),
            Err(_) => return false,
        };
        self.has_id() && is_session_lost(asked.status, said)
    }

    /// Whose it is, if it is a caller's.
    pub(crate) fn owner(&self) -> Option<&SessionKey> {
        self.owner.get()
    }

    pub(in crate::upstream) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The upstream does not know it any more.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Asks for log messages from `level` on, unless they come already. A session that many
    /// callers share never gets quieter.
    pub(crate) async fn want_logs(&self, level: Level, key: &SessionKey) {
        let is_new = {
            let mut last = self.level.lock();
            let is_new = match key {
                SessionKey::Client(_) => *last != Some(level),
                SessionKey::Principal { .. } => last.is_none_or(|last| level < last),
            };
            if is_new {
                *last = Some(level);
            }
            is_new && Features::read(&self.handshake.capabilities).has(Feature::Logging)
        };
        if !is_new {
            return;
        }
        let bounds = Bounds::of_step(&self.endpoint.limits, LEVEL_TIMEOUT);
        let members = format!(r#""level":"{}""#, level.as_str());
        let question = ("logging/setLevel", members.as_str());
        let asked = self.endpoint.ask(Era::Legacy, self.headers.clone(), question, &bounds).await;
        // Whoever wants fewer messages is spared the others here too.
        if let Err(failure) = asked {
            tracing::debug!(%failure, "an upstream did not take a log level");
        }
    }

    /// Whether the upstream may send several messages in one.
    pub(crate) fn has_batches(&self) -> bool {
        self.handshake.has_batches()
    }

    /// Whether the upstream gave a session id at all.
    pub(crate) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_ID)
    }

    /// Tells the upstream that nobody waits for request `id` (raw JSON) any more.
    pub(crate) fn cancel(&self, id: &[u8]) {
        self.say(cancelled(id));
    }

    /// Sends a message that is no request, in the background.
    pub(crate) fn say(&self, body: Bytes) {
        self.endpoint.say(Method::POST, self.headers.clone(), body);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.has_id() && !self.is_lost() {
            self.endpoint.say(Method::DELETE, self.headers.clone(), Bytes::new());
        }
    }
}

fn refusal(refusal: Uninitialized) -> CallFailure {
    match refusal {
        Uninitialized::IsModern => {
            CallFailure::Initialize("it speaks the modern era only".to_owned())
        }
        Uninitialized::Refused(why) => CallFailure::Initialize(why),
        Uninitialized::Incompatible(version) => CallFailure::Incompatible(version),
    }
}
