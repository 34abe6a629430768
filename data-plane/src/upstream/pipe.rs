//! An MCP server behind a pipe (a child, an event stream, a WebSocket): opened on first use,
//! shared by calls, healed when it breaks, with backoff when that does not help.

mod asked;
mod connection;
mod conversation;
mod link;
mod pace;
mod turns;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::Era;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use self::pace::{Opened, Pace};
pub(crate) use self::{
    asked::Serial,
    connection::{Connection, Ticket, Work},
    conversation::PipeConversation,
    link::{Fresh, Guard, Link, refusal},
};
use super::{
    Call, Event, Limits, SessionKey, audience::Stage, event_stream::EventStream,
    failure::CallFailure, fetch::Bounds, health::Health, sessions::Sessions, shared::Slot,
    stdio::Stdio, websocket::WebSocket,
};
use crate::{
    mcp::{Capabilities, Declared, Level},
    target::Asked,
};

/// How long a look as another client may take.
const GLIMPSE_TIMEOUT: Duration = Duration::from_secs(20);

/// What opens the pipes of an upstream.
#[derive(Debug)]
pub(crate) enum Opener {
    Stdio(Stdio),
    EventStream(EventStream),
    WebSocket(WebSocket),
}

impl Opener {
    async fn open(&self, wanted: Wanted) -> Result<Link, CallFailure> {
        match self {
            Self::Stdio(stdio) => stdio.open(wanted).await,
            Self::EventStream(stream) => stream.open(wanted).await,
            Self::WebSocket(socket) => socket.open(wanted).await,
        }
    }
}

/// What a new pipe is for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) limits: Limits,
    pub(crate) health: Arc<Health>,
    /// Whose calls alone are made on it; `None`: everybody's.
    pub(crate) owner: Option<SessionKey>,
    /// What is declared to a legacy server.
    pub(crate) declared: Declared,
    /// What the server spoke when it was last seen.
    pub(crate) era: Option<Era>,
}

/// The supervisor of an upstream's pipes.
#[derive(Debug)]
pub(crate) struct PipeUpstream {
    opener: Opener,
    limits: Limits,
    health: Arc<Health>,
    links: Links,
    pace: Mutex<Pace>,
}

/// Who shares a pipe.
#[derive(Debug)]
enum Links {
    All(Slot<Link>),
    Session(Sessions<Link>),
}

impl PipeUpstream {
    /// `era` is what the configuration remembers of it.
    pub(crate) fn new(
        opener: Opener,
        limits: Limits,
        health: Arc<Health>,
        era: Option<Era>,
    ) -> Self {
        let (links, what) = match &opener {
            Opener::Stdio(stdio) if stdio.is_shared() => {
                (Links::All(Slot::default()), Opened::Child)
            }
            Opener::Stdio(_) => (Links::Session(Sessions::default()), Opened::Child),
            Opener::EventStream(_) | Opener::WebSocket(_) => {
                (Links::Session(Sessions::default()), Opened::Connection)
            }
        };
        Self { opener, limits, health, links, pace: Mutex::new(Pace::new(what, era)) }
    }

    /// A pipe over which the catalog is read: the shared one, which was told of all capabilities,
    /// else one of its own as of a client with these. It is tried at once, whatever failed before,
    /// and what it shows counts from then on.
    pub(crate) async fn lister(
        self: &Arc<Self>,
        capabilities: Capabilities,
    ) -> Result<Arc<Link>, CallFailure> {
        let listed = match &self.links {
            Links::All(slot) => self.try_shared(slot).await?,
            Links::Session(_) => {
                // It is closed after this look, so news on it are about nothing that stays.
                let (wanted, upstream) = (self.unheard(capabilities), Arc::clone(self));
                let opening = async move { upstream.open_as(wanted).await };
                let opening = AbortOnDropHandle::new(self.runtime().spawn(opening));
                opening.await.map_err(|_| CallFailure::Gone)??
            }
        };
        self.pace.lock().forgive();
        Ok(listed)
    }

    async fn try_shared(self: &Arc<Self>, slot: &Slot<Link>) -> Result<Arc<Link>, CallFailure> {
        if let Some(ended) = slot.peek().filter(|link| link.connection.ended().is_some()) {
            slot.forget(&ended);
        }
        let upstream = Arc::clone(self);
        let open = || async move { upstream.open(None, Capabilities::all().into()).await };
        slot.get(|| self.runtime(), open).await
    }

    /// A legacy pipe of its own, for one look at what it shows to a client with these
    /// capabilities. What it says besides is told to nobody.
    pub(crate) async fn glimpse(
        self: &Arc<Self>,
        capabilities: Capabilities,
    ) -> Result<Arc<Link>, CallFailure> {
        let wanted = Wanted { era: Some(Era::Legacy), ..self.unheard(capabilities) };
        let upstream = Arc::clone(self);
        let opening = async move { upstream.opener.open(wanted).await };
        let opening = AbortOnDropHandle::new(self.runtime().spawn(opening));
        // By now it was downloaded.
        let opened = tokio::time::timeout(GLIMPSE_TIMEOUT, opening).await;
        let opened = opened.map_err(|_| CallFailure::TooLong(GLIMPSE_TIMEOUT))?;
        opened.map_err(|_| CallFailure::Gone)?.map(Arc::new)
    }

    /// What is wanted of a pipe whose server tells nobody but us.
    fn unheard(&self, capabilities: Capabilities) -> Wanted {
        Wanted {
            limits: self.limits,
            health: Arc::new(Health::new(String::new(), Arc::default(), Stage::default())),
            owner: None,
            declared: capabilities.into(),
            era: self.pace.lock().era,
        }
    }

    /// Whether everybody's calls are made on one pipe.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.links, Links::All(_))
    }

    /// The pipe of all, or that of `key`, opened as one of a client that declares this if there is
    /// none.
    pub(crate) async fn link_of(
        self: &Arc<Self>,
        key: &SessionKey,
        (declared, subject): (Declared, &str),
    ) -> Result<Arc<Link>, CallFailure> {
        let sessions = match &self.links {
            Links::All(slot) => return self.shared(slot).await,
            Links::Session(sessions) => sessions,
        };
        let key = &*self.own_key(key);
        if let Some(link) = sessions.enter(key) {
            let Some(failure) = link.connection.ended() else { return Ok(link) };
            self.note_end(&link, failure);
            sessions.forget(key, &link);
        }
        let wait = self.pace.lock().wait()?;
        tokio::time::sleep(wait).await;
        if let Opener::Stdio(stdio) = &self.opener {
            sessions.belongs_to(key, subject);
            if stdio.is_full() {
                sessions.make_room(subject);
            }
        }
        let upstream = Arc::clone(self);
        let owner = Some(key.clone());
        let open = || async move { upstream.open(owner, declared).await };
        sessions.get(key, || self.runtime(), open).await
    }

    /// Whose pipe it is. To a modern child each request says what its client can do.
    fn own_key<'k>(&self, key: &'k SessionKey) -> Cow<'k, SessionKey> {
        match (&self.opener, key) {
            (Opener::Stdio(_), SessionKey::Principal { subject, capabilities: 1.. })
                if self.pace.lock().era == Some(Era::Modern) =>
            {
                let subject = Arc::clone(subject);
                Cow::Owned(SessionKey::Principal { subject, capabilities: 0 })
            }
            (_, _) => Cow::Borrowed(key),
        }
    }

    /// The pipe of all, on which we listen in our own name; `None` if there is no such pipe.
    pub(crate) async fn common_link(self: &Arc<Self>) -> Option<Result<Arc<Link>, CallFailure>> {
        match &self.links {
            Links::All(slot) => Some(self.shared(slot).await),
            Links::Session(_) => None,
        }
    }

    /// The pipe of all, or a new one when its time has come.
    async fn shared(self: &Arc<Self>, slot: &Slot<Link>) -> Result<Arc<Link>, CallFailure> {
        if let Some(link) = slot.peek() {
            let Some(failure) = link.connection.ended() else { return Ok(link) };
            self.note_end(&link, failure);
            slot.forget(&link);
        }
        let wait = self.pace.lock().wait()?;
        tokio::time::sleep(wait).await;
        let upstream = Arc::clone(self);
        // It serves many clients, so what one of them lacks is refused in its name.
        let open = || async move { upstream.open(None, Capabilities::all().into()).await };
        slot.get(|| self.runtime(), open).await
    }

    /// Servers that go away take connections with them; only children are blamed.
    fn note_end(&self, link: &Link, failure: &CallFailure) {
        if let Opener::Stdio(_) = self.opener {
            self.pace.lock().ended(link.since.elapsed(), failure.to_string());
        }
    }

    fn runtime(&self) -> Handle {
        match &self.opener {
            Opener::Stdio(stdio) => stdio.runtime().clone(),
            Opener::EventStream(_) | Opener::WebSocket(_) => Handle::current(),
        }
    }

    async fn open(
        self: Arc<Self>,
        owner: Option<SessionKey>,
        declared: Declared,
    ) -> Result<Arc<Link>, CallFailure> {
        let wanted = Wanted {
            limits: self.limits,
            health: Arc::clone(&self.health),
            owner,
            declared,
            era: self.pace.lock().era,
        };
        self.open_as(wanted).await
    }

    async fn open_as(self: Arc<Self>, wanted: Wanted) -> Result<Arc<Link>, CallFailure> {
        let opened = self.opener.open(wanted).await;
        let mut pace = self.pace.lock();
        match &opened {
            Ok(link) => {
                pace.era = Some(link.handshake.era);
                pace.starts = pace.starts.saturating_add(1);
                // Another child may offer other things; other sessions of the same server not.
                if pace.starts > 1 && matches!(self.links, Links::All(_)) {
                    self.health.lists_may_have_changed();
                }
            }
            // Nothing was started: that says nothing of the command.
            Err(CallFailure::TooManyChildren(_) | CallFailure::ProxyFull(_)) => (),
            Err(failure) => {
                // What it was taken for may have been the reason.
                pace.era = None;
                pace.failed(failure.to_string());
            }
        }
        drop(pace);
        opened.map(Arc::new)
    }

    /// Passes on what a legacy client says outside of calls, if it has a pipe of its own: it is
    /// nothing to those who share one.
    pub(crate) fn notify_session(&self, key: &SessionKey, body: &Bytes) {
        if let Some(link) = self.legacy_link(key) {
            // A pipe that is broken will be noticed soon enough.
            link.connection.notify(body.clone()).ok();
        }
    }

    /// Asks for a legacy client's log messages from `level` on. On a pipe that many share the next
    /// call does it.
    pub(crate) fn want_logs(&self, key: &SessionKey, level: Level) {
        if let Some(link) = self.legacy_link(key) {
            link.want_logs(level).ok();
        }
    }

    /// The open pipe to a legacy server that is one client's alone.
    pub(super) fn legacy_link(&self, key: &SessionKey) -> Option<Arc<Link>> {
        let Links::Session(sessions) = &self.links else { return None };
        sessions.peek(key).filter(|link| link.handshake.era == Era::Legacy)
    }

    /// Ends the pipe of one client session or principal when its calls are done.
    pub(crate) fn close_session(&self, key: &SessionKey) {
        match &self.links {
            Links::All(_) => (),
            Links::Session(sessions) => sessions.close(key),
        }
    }

    /// Ends all pipes when the calls that use them are done.
    pub(crate) fn close(&self) {
        match &self.links {
            Links::All(slot) => drop(slot.take()),
            Links::Session(sessions) => sessions.close_all(),
        }
    }

    /// Ends the pipes of sessions that were not used for `idle`.
    pub(crate) fn sweep(&self, idle: Duration) {
        match &self.links {
            Links::All(_) => (),
            Links::Session(sessions) => sessions.sweep(idle),
        }
    }

    /// How many pipes are open.
    pub(crate) fn open_count(&self) -> usize {
        match &self.links {
            Links::All(slot) => usize::from(slot.peek().is_some()),
            Links::Session(sessions) => sessions.len(),
        }
    }

    /// Sends a call and waits for what the server says first.
    pub(crate) async fn call(
        self: &Arc<Self>,
        call: &Call,
        bounds: Bounds,
    ) -> Result<(Event, PipeConversation), CallFailure> {
        let mut is_first = true;
        loop {
            let whose = (call.declared_by_session(), &*call.subject);
            let link = bounds.within(self.link_of(&call.session, whose)).await??;
            let work = work_of(call);
            let turn = bounds.within_turn(link.connection.turn_of(&work)).await?;
            let mut conversation = PipeConversation::new(link, call, bounds, (work, turn));
            let sent = conversation.send(call);
            let may_repeat = sent.is_err() || call.is_repeatable();
            let heard = match sent {
                Ok(()) => conversation.next().await,
                Err(failure) => Err(failure),
            };
            match heard {
                Ok(event) => return Ok((event, conversation)),
                // The server did not know the session, so it did nothing.
                Err(CallFailure::SessionLost) if is_first => (),
                Err(CallFailure::Exited(_) | CallFailure::Broken(_)) if is_first && may_repeat => {}
                Err(failure) => return Err(failure),
            }
            is_first = false;
        }
    }
}

/// What a call makes the server work on; what asks alike has one name.
fn work_of(call: &Call) -> Work {
    match &call.target.asked {
        Asked::Tool(tool) => Work::Call(tool.original_name().into()),
        Asked::Prompt { name, .. } => Work::Call(format!("prompts/get {name}").into()),
        Asked::Resource { .. } => Work::Call("resources/read".into()),
        Asked::Completion { .. } => Work::Call("completion/complete".into()),
        Asked::Task { id, wish: _, .. } => Work::Task((**id).into()),
        Asked::Extension { method, .. } => Work::Call((**method).into()),
        Asked::Tasks { .. } => Work::Call("tasks/list".into()),
    }
}
