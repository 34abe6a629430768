//! From a client on a pipe to a server over Streamable HTTP: one line in, one message out.
//!
//! The client keeps its own handshake and its own ids. The bridge keeps what HTTP adds to them:
//! the session, its stream of messages that answer nothing, mirror headers, and new connections
//! where old ones broke.

mod requests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{Era, Secret};
use tokio_util::task::TaskTracker;

use self::requests::Requests;
use super::{
    ClientError,
    carry::Ended,
    end::{ClientEnd, Said},
    lines::{Input, Messages},
    remote::Remote,
    reply::Reply,
    session::{Renewed, Session},
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
/// How long arrays may take to be handed out of which not all has been answered by then.
pub(super) const LAST_ARRAYS: Duration = Duration::from_millis(500);
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
    requests: Requests,
    work: TaskTracker,
    request_timeout: Option<Duration>,
}

impl Bridge {
    /// Checks what can be checked; nothing is sent yet.
    pub fn new(config: BridgeConfig) -> Result<Self, ClientError> {
        let BridgeConfig { url, authorization, request_timeout } = config;
        let remote = Arc::new(Remote::new(&url, authorization.as_ref())?);
        Ok(Self { remote, request_timeout })
    }

    /// Runs until `lines` ends, and not much longer. Messages for the client, one line each, come
    /// out of the receiver.
    pub fn run(self, mut lines: Input) -> (Messages, impl Future<Output = ()> + Send) {
        let (client, messages) = ClientEnd::open();
        let running = Arc::new(Running {
            remote: self.remote,
            client,
            requests: Requests::default(),
            work: TaskTracker::new(),
            request_timeout: self.request_timeout,
        });
        let serving = async move {
            let patience = lines.patience();
            let taking = async {
                while let Some(line) = lines.next().await {
                    running.take(line).await;
                }
            };
            let is_taken = patience.wait(taking).await;
            running.work.close();
            running.requests.unsubscribe();
            let answered = tokio::time::timeout(GRACE, running.work.wait());
            if !is_taken || answered.await.is_err() {
                tracing::info!("some requests are given up: the client has gone");
                running.requests.give_up();
                tokio::time::timeout(LAST_ARRAYS, running.work.wait()).await.ok();
            }
            running.remote.end().await;
        };
        (messages, serving)
    }
}

impl Running {
    async fn take(self: &Arc<Self>, line: Line) {
        let Said { messages, answers } = match self.client.read(line) {
            Ok(said) => said,
            Err(refusal) => return self.client.say(refusal).await,
        };
        if let Some(answers) = answers {
            self.work.spawn(answers.deliver());
        }
        for (message, reply) in messages {
            match &message.kind {
                Kind::Request(request) if request.method == Method::Initialize => {
                    self.initialize(message, reply).await;
                }
                Kind::Request(_) => self.request(message, reply).await,
                Kind::Notification(_) => self.notify(message).await,
                Kind::Response(_) => self.tell(message.into_body()),
            }
        }
    }

    /// The handshake comes before everything else.
    async fn initialize(self: &Arc<Self>, message: Message, reply: Reply) {
        self.remote.wishes.lock().note(&message);
        match self.remote.initialize(&message).await {
            Ok(answer) => reply.answer(answer.into_body()).await,
            Err(failure) => reply.fail(&message.id_bytes(), &failure).await,
        }
    }

    /// Notifications keep their place before what follows.
    async fn notify(self: &Arc<Self>, message: Message) {
        let cancelled = self.requests.cancelled(&message);
        let is_modern = cancelled.as_ref().is_some_and(|(era, _)| *era == Era::Modern);
        // First, since the server may answer what is cancelled, and nobody waits for that.
        if let Some((_, cancel)) = cancelled {
            cancel.cancel();
        }
        // A modern request is cancelled by closing its stream.
        if !is_modern {
            let sending = self.remote.tell(message.body().clone());
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

    /// Serves one request beside all others.
    async fn request(self: &Arc<Self>, message: Message, reply: Reply) {
        let (id, era) = (message.id_bytes(), era_of(&message));
        if era == Era::Legacy {
            self.remote.wishes.lock().note(&message);
        }
        let Some(place) = self.requests.register(&message) else {
            let problem = "the request id is in use by a running call";
            return reply.refuse(&id, code::INVALID_REQUEST, problem).await;
        };
        let running = Arc::clone(self);
        self.work.spawn(async move {
            let answered = tokio::select! {
                biased;
                // Nobody waits for the answer any more.
                () = place.cancelled() => return,
                answered = running.answer(&message, era) => answered,
            };
            // Who has heard the answer may use the id again.
            drop(place);
            match answered {
                Ok(answer) => reply.answer(answer).await,
                Err(failure) => reply.fail(&id, &failure).await,
            }
        });
    }

    async fn answer(self: &Arc<Self>, message: &Message, era: Era) -> Result<Bytes, CallFailure> {
        let exchange = self.exchange(message, era);
        let limit = self.request_timeout.filter(|_| !is_subscription(message));
        let limit = limit.unwrap_or(REQUEST_MAX);
        let done = tokio::time::timeout(limit, exchange).await;
        let answered = done.unwrap_or(Err(CallFailure::TooLong(limit)));
        // It may still run, and is not sent a second time.
        if matches!(answered, Err(CallFailure::TooLong(_) | CallFailure::Broken(_))) {
            self.give_up(message, era);
        }
        answered
    }

    /// Sends a request, in a new session if the old one is gone; gives its answer.
    async fn exchange(self: &Arc<Self>, message: &Message, era: Era) -> Result<Bytes, CallFailure> {
        let session = self.remote.session().filter(|_| era == Era::Legacy);
        let sent = self.remote.exchange(message, session.as_ref(), &self.client).await?;
        if let Some(answer) = sent {
            return Ok(answer);
        }
        let renewed = self.renew(&session.ok_or(CallFailure::SessionLost)?).await?;
        let sent = self.remote.exchange(message, Some(&renewed), &self.client).await?;
        sent.ok_or(CallFailure::SessionLost)
    }

    /// Begins a session in the place of one that the server has forgotten.
    async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, CallFailure> {
        let (running, lost) = (Arc::clone(self), Arc::clone(lost));
        // On its own: a request that is cancelled would leave the session half begun.
        let renewing = tokio::spawn(async move {
            let Renewed { session, is_fresh } = running.remote.renew(&lost).await?;
            if is_fresh {
                running.listen(Arc::clone(&session));
                running.wish_again(Arc::clone(&session));
            }
            session.has_wished().await;
            Ok(session)
        });
        renewing.await.unwrap_or(Err(CallFailure::SessionLost))
    }

    /// Says in a new session what the client wants to hear of, as long as the session lives.
    fn wish_again(self: &Arc<Self>, session: Arc<Session>) {
        let running = Arc::clone(self);
        tokio::spawn(async move {
            let over = session.over();
            let wishing = running.remote.wish_again(&session, &running.client);
            over.run_until_cancelled(wishing).await;
        });
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
