//! A session at a server over Streamable HTTP: how it begins, begins anew, and ends.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::Guard;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb};
use serde::Deserialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    carry::response_to,
    end::ClientEnd,
    remote::{Remote, STEP},
    repeat::{RECONNECT_FOR, Repeat},
    wishes::{Say, WISHES_FIRST},
};
use crate::{
    mcp::{Message, Method},
    upstream::{Bounds, CallFailure, INITIALIZED, error_of, result_of},
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session at the server.
pub(super) struct Session {
    /// The template with the session's id and version.
    pub(super) headers: HeaderMap,
    /// The client's own `initialize`, to begin anew with.
    hello: Message,
    is_confirmed: AtomicBool,
    is_listening: AtomicBool,
    /// In the place of another session: fires when it knows what the client wants to hear of.
    wishing: OnceLock<CancellationToken>,
    over: CancellationToken,
    _guard: DropGuard,
}

/// The session that took the place of a lost one.
pub(super) struct Renewed {
    pub(super) session: Arc<Session>,
    /// It has begun just now in the place of one that was in use: it has no stream yet, and knows
    /// nothing of what the client wants to hear of.
    pub(super) is_fresh: bool,
}

impl Session {
    fn new(headers: HeaderMap, hello: Message) -> Self {
        let over = CancellationToken::new();
        Self {
            headers,
            hello,
            is_confirmed: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
            wishing: OnceLock::new(),
            over: over.clone(),
            _guard: over.drop_guard(),
        }
    }

    /// The client has said `initialized`.
    pub(super) fn confirm(&self) {
        self.is_confirmed.store(true, Relaxed);
    }

    /// True for the first caller: there is one stream per session.
    pub(super) fn listen_once(&self) -> bool {
        !self.is_listening.swap(true, Relaxed)
    }

    /// Fires when another session took its place, or the bridge ends.
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Waits until it knows what the client wants to hear of, unless that takes its time.
    pub(super) async fn has_wished(&self) {
        if let Some(wished) = self.wishing.get() {
            tokio::time::timeout(WISHES_FIRST, wished.cancelled()).await.ok();
        }
    }

    pub(super) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_ID)
    }
}

impl Remote {
    /// Runs the client's handshake; its answer, whatever it says.
    pub(super) async fn initialize(&self, hello: &Message) -> Result<Message, CallFailure> {
        let (answer, session) = self.begin(hello).await?;
        if let Some(session) = session {
            self.enter(Arc::new(session));
        }
        Ok(answer)
    }

    /// A session that nobody uses yet, if the server's answer begins one.
    async fn begin(&self, hello: &Message) -> Result<(Message, Option<Session>), CallFailure> {
        let bounds = Bounds::of_step(&self.limits, STEP + RECONNECT_FOR);
        let request = (self.template.clone(), hello.body().clone());
        let response = self.post(request, Repeat::IfUnsent, &bounds).await?;
        let id = response.headers().get(SESSION_ID).cloned();
        let answer = response_to(hello, response, &bounds).await?;
        let session = result_of(&answer).and_then(negotiated).map(|version| {
            let mut headers = self.template.clone();
            if let Some(mut id) = id {
                id.set_sensitive(true);
                headers.insert(SESSION_ID, id);
            }
            headers.insert(VERSION, version);
            Session::new(headers, hello.clone())
        });
        Ok((answer, session))
    }

    fn enter(&self, session: Arc<Session>) {
        if let Some(old) = self.session.swap(Some(session)) {
            old.over.cancel();
        }
    }

    /// Begins a session like the lost one; callers that come meanwhile share it.
    pub(super) async fn renew(&self, lost: &Arc<Session>) -> Result<Renewed, CallFailure> {
        let _renewing = self.renewing.lock().await;
        if let Some(session) = self.session().filter(|session| !Arc::ptr_eq(session, lost)) {
            return Ok(Renewed { session, is_fresh: false });
        }
        tracing::info!("the server has forgotten the session: initializing again");
        let (answer, session) = self.begin(&lost.hello).await?;
        if let Some(error) = error_of(&answer) {
            let text = format!("error {}: {}", error.code, error.message);
            return Err(CallFailure::Initialize(text));
        }
        let session = Arc::new(session.ok_or(CallFailure::SessionLost)?);
        let is_fresh = lost.is_confirmed.load(Relaxed);
        if is_fresh {
            session.wishing.get_or_init(CancellationToken::new);
            session.confirm();
            let bounds = Bounds::of_step(&self.limits, STEP);
            let request = (session.headers.clone(), Bytes::from_static(INITIALIZED.as_bytes()));
            if let Err(failure) = self.post(request, Repeat::IfBroken, &bounds).await {
                tracing::warn!(%failure, "the new session was not told that it has begun");
            }
        }
        // Last: servers refuse what comes before they were told.
        let old = Some(Arc::clone(lost));
        let found = self.session.compare_and_swap(&old, Some(Arc::clone(&session)));
        let found = Guard::into_inner(found);
        if found.as_ref().is_some_and(|found| Arc::ptr_eq(found, lost)) {
            lost.over.cancel();
            return Ok(Renewed { session, is_fresh });
        }
        // Meanwhile the client has begun one itself, or the bridge has ended.
        self.leave(&session).await;
        let session = found.ok_or(CallFailure::SessionLost)?;
        Ok(Renewed { session, is_fresh: false })
    }

    /// Says again what the client wants to hear of, and tells it what it may have missed.
    pub(super) async fn wish_again(&self, session: &Session, client: &ClientEnd) {
        let _wished = session.wishing.get().cloned().map(CancellationToken::drop_guard);
        let mut again = self.wishes.lock().again();
        loop {
            let next = again.next(&self.wishes.lock());
            match next {
                Some(Say::Server(message)) => self.wish(session, &message).await,
                Some(Say::Client(told)) => client.say(told).await,
                None => return,
            }
        }
    }

    async fn wish(&self, session: &Session, message: &Message) {
        let bounds = Bounds::of_step(&self.limits, STEP);
        let request = (session.headers.clone(), message.body().clone());
        let answered = async {
            let response = self.post(request, Repeat::IfBroken, &bounds).await?;
            response_to(message, response, &bounds).await
        };
        // What was refused before is refused again, else the server has changed its mind.
        let refused = match bounds.within_all(answered).await {
            Ok(Ok(answer)) => error_of(&answer).map(|error| error.message.into_owned()),
            Ok(Err(failure)) | Err(failure) => Some(failure.to_string()),
        };
        if let Some(refused) = refused {
            let method = message.method().map(Method::as_str).unwrap_or_default();
            tracing::warn!(method, refused, "the new session does not take what the old did");
        }
    }

    /// Says goodbye to the server.
    pub(super) async fn end(&self) {
        if let Some(session) = self.session.swap(None) {
            self.leave(&session).await;
        }
    }

    async fn leave(&self, session: &Session) {
        session.over.cancel();
        if session.has_id() {
            let bounds = Bounds::of_step(&self.limits, GOODBYE);
            let goodbye = (session.headers.clone(), Bytes::new());
            // Whether the server takes it or not, we go.
            self.send(Verb::DELETE, &self.uri, goodbye, &bounds).await.ok();
        }
    }
}

/// The version in the result of `initialize`.
pub(super) fn negotiated(result: &str) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result {
        protocol_version: String,
    }
    let result: Result = serde_json::from_str(result).ok()?;
    HeaderValue::from_str(&result.protocol_version).ok()
}
