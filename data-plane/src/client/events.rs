//! From a client on a pipe to a server over HTTP+SSE: one line in, one message out.
//!
//! The stream is the session. When it breaks, another one begins with the client's own
//! handshake, and requests whose answers went with the old one are told so.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BridgeConfig, ClientError,
    bridge::{GRACE, QUEUE, cancellation, say},
    remote::{BACKOFF_MAX, BACKOFF_MIN, RECONNECT_FOR, Remote, STEP},
};
use crate::{
    mcp::{
        Kind, Message, Method, code,
        message::{ParseError, parse},
        response,
    },
    upstream::{
        Bounds, CallFailure, INITIALIZED, fetch, resolve,
        sse::{Decoder, SseEvent, TooLarge},
    },
};

/// How long the first event may take once the stream is there.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// Some servers accept a request only when it is done: after this the next one follows.
const ORDER_PATIENCE: Duration = Duration::from_millis(250);
/// Requests whose late answers are still recognised.
const FORGOTTEN_MAX: usize = 256;

/// A bridge that is not running yet.
#[derive(Debug)]
pub struct EventBridge {
    remote: Remote,
    request_timeout: Option<Duration>,
}

/// The running bridge.
struct Running {
    remote: Remote,
    out: mpsc::Sender<Bytes>,
    way: watch::Sender<Way>,
    state: Mutex<State>,
    request_timeout: Option<Duration>,
}

/// Where messages are posted.
#[derive(Clone, Debug)]
enum Way {
    /// There is no stream yet.
    Opening,
    Open(Uri),
    /// Trying again will hardly help.
    Refused(CallFailure),
}

#[derive(Default)]
struct State {
    /// The client's own `initialize`, to begin anew with.
    hello: Option<Message>,
    is_confirmed: bool,
    waiting: Vec<Waiting>,
    /// Ids of requests that nobody waits for any more.
    forgotten: VecDeque<Bytes>,
}

/// A request without an answer yet.
struct Waiting {
    /// Raw JSON.
    id: Bytes,
    is_posted: bool,
}

impl State {
    /// True if somebody waited for the answer.
    fn forget(&mut self, id: &[u8]) -> bool {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) else {
            return false;
        };
        let waiting = self.waiting.swap_remove(at);
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(waiting.id);
        true
    }
}

impl EventBridge {
    /// Checks what can be checked; nothing is sent yet.
    pub fn new(config: BridgeConfig) -> Result<Self, ClientError> {
        let BridgeConfig { url, authorization, request_timeout } = config;
        Ok(Self { remote: Remote::new(&url, authorization.as_ref())?, request_timeout })
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
            way: watch::Sender::new(Way::Opening),
            state: Mutex::default(),
            request_timeout: self.request_timeout,
        });
        let serving = async move {
            let streaming = Arc::clone(&running);
            let _streaming =
                AbortOnDropHandle::new(tokio::spawn(async move { streaming.stream().await }));
            let mut posts = JoinSet::new();
            while let Some(line) = lines.recv().await {
                while posts.try_join_next().is_some() {}
                let taken = Arc::clone(&running);
                posts.spawn(async move { taken.take(line).await });
                tokio::time::timeout(ORDER_PATIENCE, posts.join_next()).await.ok();
            }
            tokio::time::timeout(GRACE, running.last_answers(posts)).await.ok();
        };
        (messages, serving)
    }
}

impl Running {
    async fn last_answers(&self, mut posts: JoinSet<()>) {
        while posts.join_next().await.is_some() {}
        while !self.state.lock().waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends one line of the client.
    async fn take(self: &Arc<Self>, line: Bytes) {
        let message = match parse(line.clone()) {
            Ok(message) => message,
            // Batches of old clients are for the server to judge.
            Err(ParseError::Batch) => {
                if let Err(failure) = self.post(line).await {
                    tracing::warn!(%failure, "a batch was lost");
                }
                return;
            }
            Err(ParseError::NotJson) => {
                return self.say_error(None, code::PARSE_ERROR, "the line is not JSON").await;
            }
            Err(ParseError::Invalid { problem, id }) => {
                return self.say_error(id.as_deref(), code::INVALID_REQUEST, problem).await;
            }
        };
        self.note(&message);
        let Err(failure) = self.post(line).await else { return };
        let id = message.id().filter(|_| matches!(message.kind, Kind::Request(_)));
        match id {
            Some(id) if self.state.lock().forget(id) => self.fail(id, &failure).await,
            Some(_) => {}
            None => tracing::warn!(%failure, "a message was lost"),
        }
    }

    /// Remembers what a message means for the session.
    fn note(self: &Arc<Self>, message: &Message) {
        let mut state = self.state.lock();
        match &message.kind {
            Kind::Request(request) => {
                if request.method == Method::Initialize {
                    state.hello = Some(message.clone());
                    state.is_confirmed = false;
                }
                let id = message.slice(request.id);
                state.waiting.push(Waiting { id: id.clone(), is_posted: false });
                self.limit(id);
            }
            Kind::Notification(notification) => match notification.method {
                Method::Initialized => state.is_confirmed = true,
                Method::Cancelled => {
                    if let Some(id) = notification.params.request_id {
                        state.forget(message.raw(id));
                    }
                }
                _ => {}
            },
            Kind::Response(_) => {}
        }
    }

    /// Gives a request up when it takes too long.
    fn limit(self: &Arc<Self>, id: Bytes) {
        let Some(limit) = self.request_timeout else { return };
        let running = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            if running.state.lock().forget(&id) {
                running.fail(&id, &CallFailure::TooLong(limit)).await;
                running.post(cancellation(&id)).await.ok();
            }
        });
    }

    /// Posts once there is a stream.
    async fn post(&self, body: Bytes) -> Result<(), CallFailure> {
        let mut way = self.way.subscribe();
        let found = async {
            let found = way.wait_for(|way| !matches!(way, Way::Opening)).await;
            found.map_or(Way::Opening, |way| way.clone())
        };
        let found = tokio::time::timeout(RECONNECT_FOR, found).await.unwrap_or(Way::Opening);
        let target = match found {
            Way::Open(target) => target,
            Way::Refused(failure) => return Err(failure),
            Way::Opening => {
                return Err(CallFailure::Broken("gave no event stream in time".to_owned()));
            }
        };
        self.mark_posted(&body);
        self.post_to(target, body).await
    }

    fn mark_posted(&self, body: &Bytes) {
        let Ok(message) = parse(body.clone()) else { return };
        let mut state = self.state.lock();
        let mut waiting = state.waiting.iter_mut();
        if let Some(waiting) = waiting.find(|waiting| message.id() == Some(&*waiting.id)) {
            waiting.is_posted = true;
        }
    }

    async fn post_to(&self, target: Uri, body: Bytes) -> Result<(), CallFailure> {
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Verb::POST;
        *request.uri_mut() = target;
        request.headers_mut().clone_from(&self.remote.template);
        let response = fetch::send(&self.remote.client, request, &bounds).await?;
        let status = response.status();
        let body = fetch::read_refusal(response.into_body(), &bounds).await;
        match status.as_u16() {
            _ if status.is_success() => Ok(()),
            code @ (401 | 403) => Err(CallFailure::Auth { status: code }),
            code => Err(CallFailure::HttpStatus { status: code, excerpt: fetch::excerpt(&body) }),
        }
    }

    /// Keeps a stream open for ever.
    async fn stream(&self) {
        let mut wait = BACKOFF_MIN;
        loop {
            let failure = match self.session().await {
                Ok(()) => CallFailure::Broken("it ended its event stream".to_owned()),
                Err(failure) => failure,
            };
            let was_open = matches!(*self.way.borrow(), Way::Open(_));
            if was_open {
                wait = BACKOFF_MIN;
            }
            let may_come =
                was_open || matches!(failure, CallFailure::Unreachable(_) | CallFailure::Broken(_));
            let next = if may_come { Way::Opening } else { Way::Refused(failure.clone()) };
            self.way.send_replace(next);
            tracing::info!(%failure, "no event stream: trying again");
            self.lose(&failure).await;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Answers of posted requests went with their stream.
    async fn lose(&self, failure: &CallFailure) {
        let lost: Vec<_> = {
            let mut state = self.state.lock();
            state.waiting.extract_if(.., |waiting| waiting.is_posted).collect()
        };
        for waiting in lost {
            self.fail(&waiting.id, failure).await;
        }
    }

    /// One stream from its begin to its end.
    async fn session(&self) -> Result<(), CallFailure> {
        let mut stream = self.open().await?;
        let first = Bounds::of_step(&self.remote.limits, ENDPOINT_TIMEOUT);
        let event = first.within(stream.next()).await??.ok_or(CallFailure::NoResponse)?;
        if event.name != "endpoint" {
            let problem = "the first event of its stream is not `endpoint`";
            return Err(CallFailure::Initialize(problem.to_owned()));
        }
        let target = resolve(&self.remote.uri, &event.data).map_err(CallFailure::Initialize)?;
        self.greet(&mut stream, &target).await?;
        self.way.send_replace(Way::Open(target));
        while let Some(event) = stream.next().await? {
            self.hear(event).await;
        }
        Ok(())
    }

    async fn open(&self) -> Result<Stream, CallFailure> {
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.remote.uri.clone();
        let mut headers: HeaderMap = self.remote.template.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        *request.headers_mut() = headers;
        let response = fetch::send(&self.remote.client, request, &bounds).await?;
        let status = response.status();
        if matches!(status.as_u16(), 401 | 403) {
            return Err(CallFailure::Auth { status: status.as_u16() });
        }
        if status != StatusCode::OK {
            let body = fetch::read_refusal(response.into_body(), &bounds).await;
            let excerpt = fetch::excerpt(&body);
            return Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt });
        }
        if !fetch::is_event_stream(response.headers()) {
            let media = fetch::media_type(response.headers());
            return Err(CallFailure::ContentType(media.to_owned()));
        }
        let limit = bounds.message_max;
        Ok(Stream { body: response.into_body(), decoder: Decoder::new(limit), limit })
    }

    /// Begins again with what the client said first, if it said so on an earlier stream.
    async fn greet(&self, stream: &mut Stream, target: &Uri) -> Result<(), CallFailure> {
        let (hello, is_confirmed) = {
            let state = self.state.lock();
            (state.hello.clone(), state.is_confirmed)
        };
        let Some(hello) = hello.filter(|_| is_confirmed) else { return Ok(()) };
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let answered = async {
            while let Some(event) = stream.next().await? {
                let is_answer = parse(event.data.clone()).is_ok_and(|message| {
                    matches!(message.kind, Kind::Response(_)) && message.id() == hello.id()
                });
                if is_answer {
                    return Ok(());
                }
                self.hear(event).await;
            }
            Err(CallFailure::NoResponse)
        };
        let posted = self.post_to(target.clone(), hello.body.clone());
        bounds.within(async { tokio::try_join!(posted, answered).map(drop) }).await??;
        self.post_to(target.clone(), Bytes::from_static(INITIALIZED.as_bytes())).await
    }

    /// Hands out a message, unless it answers what nobody waits for.
    async fn hear(&self, event: SseEvent) {
        // Keep-alives of some servers have names of their own.
        if event.data.is_empty() || !(event.name.is_empty() || event.name == "message") {
            return;
        }
        let Ok(message) = parse(event.data.clone()) else {
            tracing::debug!("the server sent something else than messages");
            return say(&self.out, event.data).await;
        };
        if matches!(message.kind, Kind::Response(_)) && self.is_late(&message) {
            return;
        }
        say(&self.out, event.data).await;
    }

    /// Whether nobody waits for this answer any more; else it is waited for no longer.
    fn is_late(&self, answer: &Message) -> bool {
        let Some(id) = answer.id() else { return false };
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| waiting.id != id);
        state.forgotten.iter().any(|forgotten| forgotten == id)
    }

    async fn fail(&self, id: &[u8], failure: &CallFailure) {
        tracing::warn!(%failure, "a request failed");
        self.say_error(Some(id), code::INTERNAL_ERROR, &format!("the server {failure}")).await;
    }

    async fn say_error(&self, id: Option<&[u8]>, code: i64, message: &str) {
        say(&self.out, response::error(id, code, message, None)).await;
    }
}

/// The events of one session.
struct Stream {
    body: Incoming,
    decoder: Decoder,
    limit: usize,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<SseEvent>, CallFailure> {
        loop {
            let event = self.decoder.next();
            let event = event.map_err(|TooLarge| CallFailure::TooLarge { limit: self.limit })?;
            if event.is_some() {
                return Ok(event);
            }
            match fetch::chunk(&mut self.body).await? {
                Some(chunk) => self.decoder.push(chunk),
                None => return Ok(None),
            }
        }
    }
}
