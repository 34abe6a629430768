//! A connection that carries messages both ways: what comes in goes to the engines at once, what
//! they say goes out one after the other. HTTP+SSE and WebSocket differ only in how bytes travel.

mod batch;
mod calls;
mod carried;
mod saying;

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use proto::{Permission, Principal, policy};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::calls::Running;
use crate::{
    connection::closed,
    edge::{self, Client, Edge, now_ms},
    engine::{self, Inbound, Sender, Served},
    error::Failure,
    exchange::Exchange,
    limit::Permit,
    mcp::{Kind, Message, Method, version, version::InboundEra},
    route::{self, Endpoint},
    session::SessionClaims,
    sessions::{Live, channel::Reader, listeners::Hearing},
    snapshot::table::Table,
    upstream::SessionKey,
};

/// Messages that may wait for a client to read them.
const QUEUE: usize = 64;
/// How often it is looked whether the principal may still be here.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The same of whether the last calls are done, once the proxy is about to end.
const LAST_CALLS: Duration = Duration::from_millis(50);

/// One open connection. The transport that opened it holds its [`End`].
pub(crate) struct Pipe {
    edge: Arc<Edge>,
    client: Client,
    endpoint: Endpoint,
    /// What the client authenticated with, looked at again as long as the connection lasts.
    authorization: Option<HeaderValue>,
    principal: Arc<Principal>,
    /// Of a legacy client, after its `initialize`.
    session: OnceLock<Session>,
    /// What belongs to no call, until somebody carries it out.
    listening: Mutex<Option<Reader>>,
    /// Calls that a `notifications/cancelled` can name.
    running: Mutex<Vec<Running>>,
    out: mpsc::Sender<Bytes>,
    work: TaskTracker,
    batches: batch::Places,
    closed: CancellationToken,
    _place: Permit,
}

/// What a message led to.
enum Begun {
    /// All is said about it, in an answer if it expects one.
    Done(Option<Bytes>),
    Relay(Exchange),
    Listening(Box<Hearing>),
    /// It may have to be answered elsewhere, or after a look.
    Carry(Box<Message>, Arc<Table>, Arc<Principal>),
}

struct Session {
    claims: SessionClaims,
    live: Mutex<Arc<Live>>,
}

/// The transport's hold on a pipe: what must be written, and the end when it is dropped.
pub(crate) struct End {
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) messages: mpsc::Receiver<Bytes>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

/// Who opens a pipe, and where.
pub(crate) struct Opening {
    pub(crate) edge: Arc<Edge>,
    pub(crate) client: Client,
    pub(crate) endpoint: Endpoint,
    pub(crate) principal: Arc<Principal>,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) place: Permit,
}

impl Pipe {
    /// Opens a pipe for an authenticated client.
    pub(crate) fn open(opening: Opening) -> End {
        let Opening { edge, client, endpoint, principal, authorization, place } = opening;
        let (out, messages) = mpsc::channel(QUEUE);
        let pipe = Self {
            edge,
            client,
            endpoint,
            authorization,
            principal,
            session: OnceLock::new(),
            listening: Mutex::default(),
            running: Mutex::default(),
            out,
            work: TaskTracker::new(),
            batches: batch::Places::default(),
            closed: CancellationToken::new(),
            _place: place,
        };
        End { pipe: Arc::new(pipe), messages }
    }

    /// Whether `principal` is the one who opened it, at `endpoint`.
    pub(crate) fn is_of(&self, principal: &Principal, endpoint: &Endpoint) -> bool {
        self.principal.subject == principal.subject && self.endpoint == *endpoint
    }

    /// Resolves when the proxy is about to end and nothing is left that would be answered.
    pub(crate) async fn last_calls(&self, closing: &mut ShutdownWatch) {
        closed(closing).await;
        while !self.work.is_empty() || self.out.capacity() < QUEUE {
            tokio::time::sleep(LAST_CALLS).await;
        }
    }

    /// Takes the bytes of one message; what cannot be read is answered too.
    pub(crate) async fn read(self: &Arc<Self>, body: Bytes) -> Result<(), Failure> {
        let mut id = None;
        match self.batch_in(&body) {
            None => (),
            Some(Ok(batch)) => return Box::pin(self.take_all(batch)).await,
            Some(Err(failure)) => {
                self.refuse(&failure, None).await;
                return Ok(());
            }
        }
        match edge::parse(body, &mut id) {
            // Boxed, since a pipe is idle most of the time.
            Ok(message) => Box::pin(self.take(message)).await,
            Err(failure) => {
                self.refuse(&failure, id.as_deref()).await;
                Ok(())
            }
        }
    }

    /// Takes one message; what it leads to comes out of the pipe. Waits while the client does
    /// not read its answers. Fails when the principal may not use the pipe any more.
    pub(crate) async fn take(self: &Arc<Self>, message: Message) -> Result<(), Failure> {
        let id = message.id_bytes();
        let pipe = Arc::clone(self);
        match self.begin(message).await? {
            Begun::Done(None) => (),
            Begun::Done(Some(answer)) => {
                self.say(answer).await;
                self.listen();
            }
            Begun::Relay(exchange) => match self.enlist(&id) {
                Ok(place) => self.answer(place, async move { pipe.pump(exchange).await }),
                Err(failure) => self.say(exchange.refuse(&failure)).await,
            },
            Begun::Listening(hearing) => {
                self.run(id, async move { pipe.tell(hearing).await }).await;
            }
            Begun::Carry(message, table, principal) => {
                self.run(id, async move { pipe.carry(*message, table, principal).await }).await;
            }
        }
        Ok(())
    }

    /// Takes one message as far as that takes no time.
    async fn begin(&self, message: Message) -> Result<Begun, Failure> {
        let id = message.id_bytes();
        let is_request = matches!(message.kind, Kind::Request(_));
        let served = match self.caller().await {
            Ok((table, principal)) if self.may_take_time(&message, &table, &principal) => {
                return Ok(Begun::Carry(Box::new(message), table, principal));
            }
            Ok((table, principal)) => self.serve(message, self.sender(table, principal)),
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(failure) => Err(failure),
        };
        Ok(match served {
            Ok(Served::Answer(answer) | Served::Began { answer, id: _ }) => {
                Begun::Done(Some(answer.into_bytes()))
            }
            Ok(Served::Relay(exchange)) => Begun::Relay(exchange),
            Ok(Served::Listening(hearing)) => Begun::Listening(hearing),
            Ok(Served::Accepted) => Begun::Done(None),
            Err(failure) if is_request => Begun::Done(Some(self.refusal(&failure, Some(&id)))),
            // Who expects no answer gets none.
            Err(failure) => {
                failure.log();
                Begun::Done(None)
            }
        })
    }

    /// The configuration, and the principal as it is now.
    async fn caller(&self) -> Result<(Arc<Table>, Arc<Principal>), Failure> {
        let table = self.edge.current().load().ok_or(Failure::NotConfigured)?;
        let principal = self.edge.principal(&table, self.authorization.as_ref(), now_ms()).await?;
        if !policy::is_allowed(principal.role, Permission::Call)
            || principal.subject != self.principal.subject
        {
            return Err(Failure::Forbidden);
        }
        Ok((table, principal))
    }

    fn serve(&self, message: Message, sender: Sender<'_>) -> Result<Served, Failure> {
        if message.method() == Some(&Method::Cancelled) {
            self.cancel(&message);
        }
        let era = version::era_of_body(&message)?;
        let inbound = Inbound { sender, message };
        match era {
            InboundEra::Modern { version, capabilities } => {
                engine::modern::serve(inbound, route::Client { version, capabilities })
            }
            InboundEra::Legacy { header: _ } => self.legacy(inbound),
        }
    }

    fn sender(&self, table: Arc<Table>, principal: Arc<Principal>) -> Sender<'_> {
        Sender {
            edge: &self.edge,
            client: &self.client,
            table,
            principal,
            endpoint: self.endpoint.clone(),
            headers: None,
            now_ms: now_ms(),
            private: None,
        }
    }

    fn legacy(&self, inbound: Inbound<'_>) -> Result<Served, Failure> {
        let now_ms = inbound.sender.now_ms;
        if engine::legacy::is_initialize(&inbound.message) {
            if self.session.get().is_some() {
                return Err(Failure::InvalidRequest("this connection is initialized already"));
            }
            let (answer, claims) = engine::legacy::begin(&inbound)?;
            let live = self.edge.sessions().enter(claims.id, now_ms);
            let live = live.ok_or(Failure::SessionUnknown)?;
            let reader = engine::legacy::attach(&inbound.sender, &claims, &live);
            *self.listening.lock() = Some(reader);
            let live = Mutex::new(live);
            // Messages come one after the other, so nobody was faster.
            self.session.set(Session { claims, live }).ok();
            return Ok(Served::Answer(answer));
        }
        // Without a session, as ContextForge's clients do it.
        let Some(session) = self.session.get() else {
            return engine::legacy::serve_alone(inbound);
        };
        let live = self.live(session, now_ms)?;
        engine::legacy::serve_in(inbound, &session.claims, &live)
    }

    /// The session's live state; it lasts as long as the pipe, however idle.
    fn live(&self, session: &Session, now_ms: i64) -> Result<Arc<Live>, Failure> {
        let mut live = session.live.lock();
        if !live.touch(now_ms) {
            let again = self.edge.sessions().enter(session.claims.id, now_ms);
            *live = again.ok_or(Failure::SessionUnknown)?;
        }
        Ok(Arc::clone(&live))
    }

    /// Resolves when the pipe has to end, and says why. Without a reason the client is too slow.
    pub(crate) async fn over(&self) -> Option<Failure> {
        tokio::select! {
            () = self.closed.cancelled() => None,
            failure = self.refused() => Some(failure),
        }
    }

    /// Resolves when the credential has expired or was revoked.
    async fn refused(&self) -> Failure {
        let mut position = self.edge.current().watch();
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                // Without a sender the proxy is about to end.
                changed = position.changed() => if changed.is_err() { std::future::pending().await },
            }
            // Boxed, since a pipe waits here most of the time.
            if let Err(failure) = Box::pin(self.caller()).await
                && is_final(&failure)
            {
                return failure;
            }
            if let Some(session) = self.session.get() {
                // An ended session is told to the next message.
                drop(self.live(session, now_ms()));
            }
        }
    }

    /// Ends everything that belongs to the connection, here and at upstreams.
    fn close(&self) {
        self.closed.cancel();
        self.end_session();
    }

    fn end_session(&self) {
        if let Some(session) = self.session.get() {
            let id = session.claims.id;
            // Nobody else ever had this id, so it need not be remembered.
            self.edge.sessions().end(id, now_ms());
            self.edge.upstreams().close_session(&SessionKey::Client(id));
        }
    }
}

/// Whether the principal is not welcome, rather than the proxy not able.
fn is_final(failure: &Failure) -> bool {
    failure.status().is_client_error()
}

/// Resolves when its pipe is over, see [`Pipe::over`].
pub(crate) type Over = Pin<Box<dyn Future<Output = Option<Failure>> + Send>>;

/// [`Pipe::over`] as a value to keep.
pub(crate) fn over(pipe: &Arc<Pipe>) -> Over {
    let pipe = Arc::clone(pipe);
    Box::pin(async move { pipe.over().await })
}
