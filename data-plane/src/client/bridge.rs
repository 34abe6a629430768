//! From a client on a pipe to a server over Streamable HTTP: one line in, one message out.
//!
//! The client keeps its own handshake and its own ids. The bridge keeps what HTTP adds to them:
//! the session, its stream of messages that answer nothing, mirror headers, and new connections
//! where old ones broke.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ClientError,
    remote::{Ended, Remote, Session},
};
use crate::{
    mcp::{
        Kind, Message, Method, code,
        message::{ParseError, parse},
        response,
        version::{self, InboundEra},
    },
    upstream::{CallFailure, error_of},
};
use proto::{Era, Secret};

/// Messages that may wait to be written.
pub(super) const QUEUE: usize = 64;
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
    out: mpsc::Sender<Bytes>,
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
    pub fn run(
        self,
        mut lines: mpsc::Receiver<Bytes>,
    ) -> (mpsc::Receiver<Bytes>, impl Future<Output = ()> + Send) {
        let (out, messages) = mpsc::channel(QUEUE);
        let running = Arc::new(Running {
            remote: self.remote,
            out,
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
    async fn take(self: &Arc<Self>, line: Bytes) {
        let message = match parse(line.clone()) {
            Ok(message) => message,
            // Batches of old clients are answered as the server answers them.
            Err(ParseError::Batch) => return self.pass(line),
            Err(ParseError::NotJson) => {
                return self.say_error(None, code::PARSE_ERROR, "the line is not JSON").await;
            }
            Err(ParseError::Invalid { problem, id }) => {
                return self.say_error(id.as_deref(), code::INVALID_REQUEST, problem).await;
            }
        };
        match &message.kind {
            Kind::Request(request) if request.method == Method::Initialize => {
                self.initialize(message).await;
            }
            Kind::Request(_) => self.request(message),
            Kind::Notification(_) => self.notify(message).await,
            Kind::Response(_) => self.pass(line),
        }
    }

    /// The handshake comes before everything else.
    async fn initialize(self: &Arc<Self>, message: Message) {
        match self.remote.initialize(&message).await {
            Ok(answer) => self.say(answer.body).await,
            Err(failure) => self.fail(&message, &failure).await,
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
            let sending = self.remote.send(&message);
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
    fn request(self: &Arc<Self>, message: Message) {
        let (id, cancel) = (message.id_bytes(), CancellationToken::new());
        let era = era_of(&message);
        self.requests.lock().push(Request {
            id: id.clone(),
            era,
            is_subscription: is_subscription(&message),
            cancel: cancel.clone(),
        });
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

    async fn answer(self: &Arc<Self>, message: &Message, era: Era) {
        let exchange = self.exchange(message, era);
        let limit = self.request_timeout.filter(|_| !is_subscription(message));
        let limit = limit.unwrap_or(REQUEST_MAX);
        let failure = if let Ok(done) = tokio::time::timeout(limit, exchange).await {
            done.err()
        } else {
            self.give_up(message, era);
            Some(CallFailure::TooLong(limit))
        };
        if let Some(failure) = failure {
            self.fail(message, &failure).await;
        }
    }

    /// Sends a request, in a new session if the old one is gone, and carries the answers.
    async fn exchange(self: &Arc<Self>, message: &Message, era: Era) -> Result<(), CallFailure> {
        let session = self.remote.session().filter(|_| era == Era::Legacy);
        match self.remote.exchange(message, session.as_ref(), &self.out).await? {
            Ended::Answered => Ok(()),
            Ended::SessionLost => {
                let session = session.ok_or(CallFailure::SessionLost)?;
                let renewed = self.renew(&session).await?;
                match self.remote.exchange(message, Some(&renewed), &self.out).await? {
                    Ended::Answered => Ok(()),
                    Ended::SessionLost => Err(CallFailure::SessionLost),
                }
            }
        }
    }

    /// Begins a session in the place of one that the server has forgotten.
    async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, CallFailure> {
        let renewed = self.remote.renew(lost).await?;
        self.listen(Arc::clone(&renewed));
        Ok(renewed)
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
                while running.remote.listen(&session, &running.out).await == Ended::SessionLost {
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

    /// Sends what has no answer of its own that we would have to wait for.
    fn pass(self: &Arc<Self>, line: Bytes) {
        let running = Arc::clone(self);
        self.work.spawn(async move {
            if let Err(failure) = running.remote.pass(line, &running.out).await {
                tracing::warn!(%failure, "a message was lost");
            }
        });
    }

    /// Tells a legacy server that nobody waits for this request any more.
    fn give_up(self: &Arc<Self>, message: &Message, era: Era) {
        if era == Era::Legacy {
            self.pass(cancellation(message.id().unwrap_or(b"null")));
        }
    }

    async fn fail(&self, message: &Message, failure: &CallFailure) {
        tracing::warn!(%failure, "a request failed");
        let text = format!("the server {failure}");
        self.say_error(message.id(), code::INTERNAL_ERROR, &text).await;
    }

    async fn say_error(&self, id: Option<&[u8]>, code: i64, message: &str) {
        self.say(response::error(id, code, message, None)).await;
    }

    async fn say(&self, message: Bytes) {
        say(&self.out, message).await;
    }
}

/// Hands a message out as one line.
pub(super) async fn say(out: &mpsc::Sender<Bytes>, message: Bytes) {
    // Nobody reads any more: then the bridge is about to end.
    out.send(line(message)).await.ok();
}

/// Tells a legacy server that nobody waits for this request any more.
pub(super) fn cancellation(id: &[u8]) -> Bytes {
    let id = String::from_utf8_lossy(id);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    )
    .into()
}

/// Line ends between JSON tokens mean nothing, on a pipe they end the message.
fn line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    let mut line = BytesMut::from(&*message);
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.freeze()
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

/// Whether an answer says that mirror headers are missing.
pub(super) fn wants_headers(answer: &Message) -> bool {
    error_of(answer).is_some_and(|error| error.code == code::HEADER_MISMATCH)
}
