//! From a client on a pipe to a server over HTTP+SSE: one line in, one message out.
//!
//! The stream is the session. When it breaks, another one begins with the client's own
//! handshake, and requests whose answers went with the old one are told so.

mod session;
mod waiting;

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Uri;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::waiting::{Serial, Waiting};
use super::{
    BridgeConfig, ClientError,
    bridge::{GRACE, LAST_ARRAYS},
    end::{ClientEnd, Said},
    lines::{Input, Messages},
    remote::{Remote, STEP},
    repeat::{RECONNECT_FOR, Repeat},
    reply::Reply,
};
use crate::{
    lines::Line,
    mcp::{Message, notice::cancelled},
    upstream::{Bounds, CallFailure, fetch},
};

/// Some servers accept a request only when it is done: after this the next one follows.
const ORDER_PATIENCE: Duration = Duration::from_millis(250);
/// A bridge that is not running yet.
#[derive(Debug)]
pub struct EventBridge {
    remote: Remote,
    request_timeout: Option<Duration>,
}

/// The running bridge.
struct Running {
    remote: Remote,
    client: ClientEnd,
    way: watch::Sender<Way>,
    waiting: Mutex<Waiting>,
    /// The id that was answered last of what is said again in a new session.
    said_again: watch::Sender<Bytes>,
    /// Arrays that are not handed out yet.
    arrays: TaskTracker,
    request_timeout: Option<Duration>,
}

/// Where messages are posted.
#[derive(Clone, Debug)]
enum Way {
    /// There is no stream yet.
    Opening {
        /// When it is tried again.
        due: Instant,
    },
    Open(Uri),
    /// Trying again will hardly help.
    Refused(CallFailure),
}

impl Way {
    /// There will be a stream soon.
    fn opening() -> Self {
        Self::Opening { due: Instant::now() }
    }
}

impl EventBridge {
    /// Checks what can be checked; nothing is sent yet.
    pub fn new(config: BridgeConfig) -> Result<Self, ClientError> {
        let BridgeConfig { url, authorization, request_timeout } = config;
        Ok(Self { remote: Remote::new(&url, authorization.as_ref())?, request_timeout })
    }

    /// Runs until `lines` ends, and not much longer. Messages for the client, one line each, come
    /// out of the receiver.
    pub fn run(self, mut lines: Input) -> (Messages, impl Future<Output = ()> + Send) {
        let (client, messages) = ClientEnd::open();
        let running = Arc::new(Running {
            remote: self.remote,
            client,
            way: watch::Sender::new(Way::opening()),
            waiting: Mutex::default(),
            said_again: watch::Sender::default(),
            arrays: TaskTracker::new(),
            request_timeout: self.request_timeout,
        });
        let serving = async move {
            let streaming = Arc::clone(&running);
            let _streaming =
                AbortOnDropHandle::new(tokio::spawn(async move { streaming.stream().await }));
            let mut posts = JoinSet::new();
            let patience = lines.patience();
            let taking = async {
                while let Some(line) = lines.next().await {
                    running.take(line, &mut posts).await;
                }
            };
            let is_taken = patience.wait(taking).await;
            running.arrays.close();
            let answered = tokio::time::timeout(GRACE, running.last_answers(posts));
            if !is_taken || answered.await.is_err() {
                tracing::info!("some requests are given up: the client has gone");
                running.waiting.lock().give_up();
                tokio::time::timeout(LAST_ARRAYS, running.arrays.wait()).await.ok();
            }
        };
        (messages, serving)
    }
}

impl Running {
    async fn last_answers(&self, mut posts: JoinSet<()>) {
        while posts.join_next().await.is_some() {}
        while !self.waiting.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.arrays.wait().await;
    }

    /// Begins to send one line of the client.
    async fn take(self: &Arc<Self>, line: Line, posts: &mut JoinSet<()>) {
        let Said { messages, answers } = match self.client.read(line) {
            Ok(said) => said,
            Err(refusal) => {
                let client = self.client.clone();
                posts.spawn(async move { client.say(refusal).await });
                return;
            }
        };
        if let Some(answers) = answers {
            self.arrays.spawn(answers.deliver());
        }
        for (message, reply) in messages {
            while posts.try_join_next().is_some() {}
            let running = Arc::clone(self);
            posts.spawn(async move { running.send(message, reply).await });
            tokio::time::timeout(ORDER_PATIENCE, posts.join_next()).await.ok();
        }
    }

    async fn send(self: &Arc<Self>, message: Message, reply: Reply) {
        self.remote.wishes.lock().note(&message);
        let Some(serial) = self.waiting.lock().note(&message, reply) else {
            if let Err(failure) = self.post(message.into_body(), Repeat::IfBroken).await {
                tracing::warn!(%failure, "a message was lost");
            }
            return;
        };
        let id = message.id_bytes();
        self.limit(serial, id.clone());
        if let Err(failure) = self.post_request(serial, message).await {
            self.fail(serial, &id, &failure).await;
        }
    }

    /// Gives a request up when it takes too long.
    fn limit(self: &Arc<Self>, serial: Serial, id: Bytes) {
        let Some(limit) = self.request_timeout else { return };
        let Some(over) = self.waiting.lock().over(serial) else { return };
        let running = Arc::clone(self);
        tokio::spawn(async move {
            if over.run_until_cancelled(tokio::time::sleep(limit)).await.is_none() {
                return;
            }
            if running.fail(serial, &id, &CallFailure::TooLong(limit)).await {
                running.post(cancelled(&id), Repeat::IfBroken).await.ok();
            }
        });
    }

    /// Answers a request that came to nothing; false if nobody waits for it.
    async fn fail(&self, serial: Serial, id: &Bytes, failure: &CallFailure) -> bool {
        let Some(reply) = self.waiting.lock().forget(serial) else { return false };
        reply.fail(id, failure).await;
        true
    }

    async fn post_request(&self, serial: Serial, request: Message) -> Result<(), CallFailure> {
        let target = loop {
            let target = self.target().await?;
            if self.promise(&target, serial) {
                break target;
            }
        };
        // A stream that ends meanwhile answers for it.
        let bounds = Bounds::of_call(&self.remote.limits).patient();
        let body = request.body().clone();
        let mut posting = pin!(self.post_within(target, body, Repeat::Never, &bounds));
        // Some servers accept a request only when it is done.
        loop {
            match tokio::time::timeout(STEP, &mut posting).await {
                Ok(posted) => return posted,
                Err(_) if self.waiting.lock().waits_for(serial) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// From now on the end of the stream answers for this request; false if it has ended.
    fn promise(&self, target: &Uri, serial: Serial) -> bool {
        // Held, so that the stream is not lost in between.
        let way = self.way.borrow();
        let is_open = matches!(&*way, Way::Open(now) if now == target);
        if is_open {
            self.waiting.lock().posted(serial);
        }
        is_open
    }

    async fn post(&self, body: Bytes, repeat: Repeat) -> Result<(), CallFailure> {
        let target = self.target().await?;
        self.post_to(target, body, repeat).await
    }

    /// Where to post, once there is a stream.
    async fn target(&self) -> Result<Uri, CallFailure> {
        let mut way = self.way.subscribe();
        let due = match &*way.borrow() {
            Way::Opening { due } => *due,
            Way::Open(_) | Way::Refused(_) => Instant::now(),
        };
        let found = async {
            let found = way.wait_for(|way| !matches!(way, Way::Opening { .. })).await;
            found.map_or_else(|_| Way::opening(), |way| way.clone())
        };
        // A server may ask for a longer pause than it is tried for.
        let end = due.max(Instant::now()) + RECONNECT_FOR;
        match tokio::time::timeout_at(end, found).await.unwrap_or_else(|_| Way::opening()) {
            Way::Open(target) => Ok(target),
            Way::Refused(failure) => Err(failure),
            Way::Opening { .. } => {
                Err(CallFailure::Broken("gave no event stream in time".to_owned()))
            }
        }
    }

    async fn post_to(&self, target: Uri, body: Bytes, repeat: Repeat) -> Result<(), CallFailure> {
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        self.post_within(target, body, repeat, &bounds).await
    }

    async fn post_within(
        &self,
        target: Uri,
        body: Bytes,
        repeat: Repeat,
        bounds: &Bounds,
    ) -> Result<(), CallFailure> {
        let request = (self.remote.template.clone(), body);
        let response = self.remote.post_at(&target, request, repeat, bounds).await?;
        let status = response.status();
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let body = fetch::read_refusal(response.into_body(), &bounds).await;
        match status.as_u16() {
            _ if status.is_success() => Ok(()),
            code @ (401 | 403) => Err(CallFailure::Auth { status: code }),
            code => Err(CallFailure::HttpStatus { status: code, excerpt: fetch::excerpt(&body) }),
        }
    }
}

#[cfg(test)]
mod tests;
