//! From a client on a pipe to a server over Streamable HTTP: one line in, one message out.
//!
//! The client keeps its own handshake and its own ids. The bridge keeps what HTTP adds to them:
//! the session, its stream of messages that answer nothing, mirror headers, and new connections
//! where old ones broke.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::{Era, Secret};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ClientError,
    end::{ClientEnd, Said},
    lines::{Input, Messages},
    remote::{Ended, Remote},
    session::Session,
};
use crate::{
    lines::Line,
    mcp::{
        Kind, Message, Method, code,
        notice::cancelled,
        version::{self, InboundEra},
    },
    upstream::CallFailure,
};

/// How long calls may go on after the client's last line.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// Longest request, unless another limit is given.
const REQUEST_MAX: Duration = Duration::from_hours(24);
/// How long a notification may hold up what comes after it.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a bridge leads.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The server's MCP endpoint.
    pub url: String,
    /// The value of `Authorization`.
    pub authorization: Option<Secret<String>>,
    /// Longest request; without one, as long as the server shows that it lives.
    pub request_timeout: Option<Duration>,
}

/// A bridge that is not running yet.
#[derive(Debug)]
pub struct Bridge {
    remote: Arc<Remote>,
    request_timeout: Option<Duration>,
}

/// The running bridge, shared by all requests.
struct Running {
    remote: Arc<Remote>,
    client: ClientEnd,
    requests: Mutex<Vec<Request>>,
    work: TaskTracker,
    request_timeout: Option<Duration>,
}

/// A request that a cancellation can name.
struct Request {
    /// Raw JSON.
    id: Bytes,
    era: Era,
    /// It goes on until somebody ends it.
    is_subscription: bool,
    cancel: CancellationToken,
}

impl Bridge {
    /// Checks what can be checked; nothing is sent yet.
    pub fn new(config: BridgeConfig) -> Result<Self, ClientError> {
        let BridgeConfig { url, authorization, request_timeout } = config;
        let remote = Arc::new(Remote::new(&url, authorization.as_ref())?);
        Ok(Self { remote, request_timeout })
    }

    /// Runs until `lines` ends. Messages for the client, one line each, come out of the receiver.
    pub fn run(self, mut lines: Input) -> (Messages, impl Future<Output = ()> + Send) {
        let (client, messages) = ClientEnd::open();
        let running = Arc::new(Running {
            remote: self.remote,
            client,
            requests: Mutex::default(),
            work: TaskTracker::new(),
            request_timeout: self.request_timeout,
        });
        let serving = async move {
            while let Some(line) = lines.recv().await {
                running.take(line).await;
            }
            running.work.close();
            running.unsubscribe();
            if tokio::time::timeout(GRACE, running.work.wait()).await.is_err() {
                tracing::info!("some requests are given up: the client has gone");
            }
            running.remote.end().await;
        };
        (messages, serving)
    }
}

impl Running {
    async fn take(self: &Arc<Self>, line: Line) {
        let message = match self.client.read(line).await {
            Some(Said::Message(message)) => *message,
            // Answered as the server answers it.
            Some(Said::Batch(batch)) => return self.pass(batch),
            None => return,
        };
        match &message.kind {
            Kind::Request(request) if request.method == Method::Initialize => {
                self.initialize(message).await;
            }
            Kind::Request(_) => self.request(message).await,
            Kind::Notification(_) => self.notify(message).await,
            Kind::Response(_) => self.tell(message.body),
        }
    }

    /// The handshake comes before everything else.
    async fn initialize(self: &Arc<Self>, message: Message) {
        self.remote.wishes.lock().note(&message);
        match self.remote.initialize(&message).await {
            Ok(answer) => self.client.say(answer.body).await,
            Err(failure) => self.client.fail(message.id(), &failure).await,
        }
    }

    /// Notifications keep their place before what follows.
    async fn notify(self: &Arc<Self>, message: Message) {
        let cancelled = self.cancelled(&message);
        let is_modern = cancelled.as_ref().is_some_and(|(era, _)| *era == Era::Modern);
        // First, since the server may answer what is cancelled, and nobody waits for that.
        if let Some((_, cancel)) = cancelled {
            cancel.cancel();
        }
        // A modern request is cancelled by closing its stream.
        if !is_modern {
            let sending = self.remote.tell(message.body.clone());
            match tokio::time::timeout(NOTIFICATION_TIMEOUT, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => tracing::warn!(%failure, "a notification was lost"),
                Err(_) => tracing::warn!("a notification was not taken in time"),
            }
        }
        if message.method() == Some(&Method::Initialized)
            && let Some(session) = self.remote.session()
        {
            session.confirm();
            self.listen(session);
        }
    }

    /// The request that a `notifications/cancelled` names, if it runs.
    fn cancelled(&self, message: &Message) -> Option<(Era, CancellationToken)> {
        if message.method() != Some(&Method::Cancelled) {
            return None;
        }
        let id = message.raw(message.params()?.request_id?);
        let requests = self.requests.lock();
        let request = requests.iter().find(|request| request.id == id)?;
        Some((request.era, request.cancel.clone()))
    }

    /// Ends what would go on although nobody listens.
    fn unsubscribe(&self) {
        let requests = self.requests.lock();
        requests.iter().filter(|it| it.is_subscription).for_each(|it| it.cancel.cancel());
    }

    /// Serves one request beside all others.
    async fn request(self: &Arc<Self>, message: Message) {
        let (id, cancel) = (message.id_bytes(), CancellationToken::new());
        let era = era_of(&message);
        let is_subscription = is_subscription(&message);
        if era == Era::Legacy {
            self.remote.wishes.lock().note(&message);
        }
        let request = Request { id: id.clone(), era, is_subscription, cancel: cancel.clone() };
        if !self.register(request) {
            let problem = "the request id is in use by a running call";
            return self.client.refuse(Some(&id), code::INVALID_REQUEST, problem).await;
        }
        let running = Arc::clone(self);
        self.work.spawn(async move {
            tokio::select! {
                biased;
                // Nobody waits for the answer any more.
                () = cancel.cancelled() => {}
                () = running.answer(&message, era) => {}
            }
            running.requests.lock().retain(|request| request.id != id);
        });
    }

    /// False if there is one with the same id.
    fn register(&self, request: Request) -> bool {
        let mut requests = self.requests.lock();
        let is_new = requests.iter().all(|other| other.id != request.id);
        if is_new {
            requests.push(request);
        }
        is_new
    }

    async fn answer(self: &Arc<Self>, message: &Message, era: Era) {
        let exchange = self.exchange(message, era);
        let limit = self.request_timeout.filter(|_| !is_subscription(message));
        let limit = limit.unwrap_or(REQUEST_MAX);
        let done = tokio::time::timeout(limit, exchange).await;
        let Err(failure) = done.unwrap_or(Err(CallFailure::TooLong(limit))) else { return };
        // It may still run, and is not sent a second time.
        if matches!(failure, CallFailure::TooLong(_) | CallFailure::Broken(_)) {
            self.give_up(message, era);
        }
        self.client.fail(message.id(), &failure).await;
    }

    /// Sends a request, in a new session if the old one is gone, and carries the answers.
    async fn exchange(self: &Arc<Self>, message: &Message, era: Era) -> Result<(), CallFailure> {
        let session = self.remote.session().filter(|_| era == Era::Legacy);
        match self.remote.exchange(message, session.as_ref(), &self.client).await? {
            Ended::Answered => Ok(()),
            Ended::SessionLost => {
                let session = session.ok_or(CallFailure::SessionLost)?;
                let renewed = self.renew(&session).await?;
                match self.remote.exchange(message, Some(&renewed), &self.client).await? {
                    Ended::Answered => Ok(()),
                    Ended::SessionLost => Err(CallFailure::SessionLost),
                }
            }
        }
    }

    /// Begins a session in the place of one that the server has forgotten.
    async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, CallFailure> {
        let (running, lost) = (Arc::clone(self), Arc::clone(lost));
        // On its own: a request that is cancelled would leave the session half begun.
        let renewing = tokio::spawn(async move {
            let renewed = running.remote.renew(&lost, &running.client).await?;
            running.listen(Arc::clone(&renewed));
            Ok(renewed)
        });
        renewing.await.unwrap_or(Err(CallFailure::SessionLost))
    }

    /// Carries what the server says outside of requests, as long as the session lives.
    fn listen(self: &Arc<Self>, session: Arc<Session>) {
        if !session.listen_once() {
            return;
        }
        let running = Arc::clone(self);
        // Not among the work that the end waits for.
        tokio::spawn(async move {
            let over = session.over();
            let listening = async {
                while running.remote.listen(&session, &running.client).await == Ended::SessionLost {
                    match running.renew(&session).await {
                        Ok(_) => return,
                        Err(failure) => tracing::warn!(%failure, "no new session yet"),
                    }
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            };
            over.run_until_cancelled(listening).await;
        });
    }

    /// Sends what is not answered, beside all else.
    fn tell(self: &Arc<Self>, message: Bytes) {
        let running = Arc::clone(self);
        self.work.spawn(async move {
            if let Err(failure) = running.remote.tell(message).await {
                tracing::warn!(%failure, "a message was lost");
            }
        });
    }

    /// Sends a batch; there may be requests in it.
    fn pass(self: &Arc<Self>, batch: Bytes) {
        let running = Arc::clone(self);
        self.work.spawn(async move {
            if let Err(failure) = running.remote.pass(batch, &running.client).await {
                tracing::warn!(%failure, "a message was lost");
            }
        });
    }

    /// Tells a legacy server that nobody waits for this request any more.
    fn give_up(self: &Arc<Self>, message: &Message, era: Era) {
        if era == Era::Legacy {
            self.tell(cancelled(message.id().unwrap_or(b"null")));
        }
    }
}

fn era_of(message: &Message) -> Era {
    match version::era_of_body(message) {
        Ok(InboundEra::Legacy { .. }) => Era::Legacy,
        // What is wrong with a claim is for the server to say.
        Ok(InboundEra::Modern { .. }) | Err(_) => Era::Modern,
    }
}

/// Whether a request is one that goes on telling.
pub(super) fn is_subscription(message: &Message) -> bool {
    message.method() == Some(&Method::Listen)
}

#[cfg(test)]
mod tests;
