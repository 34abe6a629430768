//! `resources/subscribe` at a legacy upstream, in the name of clients that cannot ask it
//! themselves: asked again on each new session, taken back when the last of them goes.

use std::{sync::Arc, time::Duration};

use ahash::AHashSet;
use proto::Era;
use tokio::time::Instant;

use super::{Keeping, LINGER, RETRY_MAX, RETRY_MIN};
use crate::{
    mcp::{
        Capabilities, Kind, Level, Message,
        message::{Outcome, Response},
        response::quote,
    },
    upstream::{
        Active, Bounds, Endpoint, Limits, Session, SessionKey, era, failure::CallFailure,
        pipe::Link,
    },
};

/// How long an upstream may take to note one subscription.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// When a subscription is tried again that an earlier session had.
const AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the session is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A session on which an upstream tells of changes.
pub(crate) enum Line {
    Http(Arc<Endpoint>, Arc<Session>),
    Pipe(Arc<Link>),
}

impl Line {
    async fn ask(&self, method: &str, uri: &str, limits: &Limits) -> Result<Message, CallFailure> {
        let members = format!(r#""uri":{}"#, quote(uri));
        let bounds = Bounds::of_step(limits, ASK_TIMEOUT);
        match self {
            Self::Http(endpoint, session) => {
                let headers = session.headers.clone();
                let question = (method, members.as_str());
                let asked = endpoint.ask(Era::Legacy, headers, question, &bounds).await?;
                if session.has_id() && asked.status == http::StatusCode::NOT_FOUND {
                    session.lose();
                    return Err(CallFailure::SessionLost);
                }
                asked.message
            }
            Self::Pipe(link) => link.ask(Capabilities::NONE, (method, &members), &bounds).await,
        }
    }

    /// Asks for log messages from `level` on, in the name of `owner`.
    pub(super) async fn want_logs(&self, level: Level, owner: &SessionKey) {
        match self {
            Self::Http(_, session) => session.want_logs(level, owner).await,
            // A pipe that is broken will be noticed soon enough.
            Self::Pipe(link) => drop(link.want_logs(level)),
        }
    }

    fn is_lost(&self) -> bool {
        match self {
            Self::Http(_, session) => session.is_lost(),
            Self::Pipe(link) => link.connection.ended().is_some(),
        }
    }

    /// Resolves when the upstream does not know the session any more.
    async fn lost(&self) {
        while !self.is_lost() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Keeping {
    /// Keeps what is wished until nothing is.
    pub(super) async fn subscribe(&self) {
        let mut wait = RETRY_MIN;
        let mut has_missed = false;
        while self.is_wanted().await {
            let Some(active) = self.active.upgrade() else { return };
            let opened = active.line(self.owner(), self.wished.able()).await;
            match opened {
                Ok(line) => {
                    let subscriptions = Subscriptions { keeping: self, line: &line, has_missed };
                    let kept = subscriptions.keep(active.limits()).await;
                    active.forget_line(self.owner(), &line);
                    if kept.is_ok() {
                        continue;
                    }
                    has_missed = true;
                    wait = RETRY_MIN;
                }
                Err(failure) => {
                    self.wished.note_failure(&failure);
                    wait = (2 * wait).min(RETRY_MAX);
                }
            }
            drop(active);
            tokio::time::sleep(wait).await;
        }
    }
}

/// The subscriptions on one session.
struct Subscriptions<'a> {
    keeping: &'a Keeping,
    line: &'a Line,
    /// Something may have been said while nobody listened.
    has_missed: bool,
}

impl Subscriptions<'_> {
    /// Follows what is wished until nothing is; fails when the session is lost.
    async fn keep(&self, limits: &Limits) -> Result<(), CallFailure> {
        let wished = &self.keeping.wished;
        let mut news = wished.changes();
        let mut kept: AHashSet<Box<str>> = AHashSet::new();
        // Refused on this session, though not on an earlier one: asked again after a while.
        let mut later: AHashSet<Box<str>> = AHashSet::new();
        let mut unwanted_since: Option<Instant> = None;
        loop {
            news.mark_unchanged();
            // Who wishes again what is still kept need not wait.
            wished.settle(|uri| kept.contains(uri).then_some(Ok(())));
            let wanted = wished.hopeful();
            let new = wanted.iter().filter(|uri| !kept.contains(*uri) && !later.contains(*uri));
            for uri in new.cloned().collect::<Vec<_>>() {
                if self.begin(&uri, limits).await? {
                    kept.insert(uri);
                } else if wished.was_told(&uri) {
                    later.insert(uri);
                }
            }
            let is_any_unwanted = kept.iter().any(|uri| !wanted.contains(uri));
            let since = is_any_unwanted.then(|| unwanted_since.unwrap_or_else(Instant::now));
            unwanted_since = since;
            if since.is_some_and(|since| since.elapsed() >= LINGER) {
                for uri in kept.extract_if(|uri| !wanted.contains(uri)).collect::<Vec<_>>() {
                    self.end(&uri, limits).await?;
                }
                unwanted_since = None;
            }
            if kept.is_empty() && wished.is_empty() {
                return Ok(());
            }
            let linger = async {
                match unwanted_since {
                    Some(since) => tokio::time::sleep_until(since + LINGER).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.line.lost() => return Err(CallFailure::SessionLost),
                () = linger => (),
                () = tokio::time::sleep(AGAIN), if !later.is_empty() => later.clear(),
                changed = news.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Subscribes; false if the upstream refuses.
    async fn begin(&self, uri: &str, limits: &Limits) -> Result<bool, CallFailure> {
        let answer = self.line.ask("resources/subscribe", uri, limits).await;
        let answer = answer.inspect_err(|failure| self.keeping.wished.note_failure(failure))?;
        let refused = refusal(&answer);
        let is_kept = refused.is_none();
        // Who was told before, stays hopeful.
        if is_kept || !self.keeping.wished.was_told(uri) {
            self.keeping.wished.note(uri, refused.map_or(Ok(()), Err));
        }
        if let (true, true, Some(active)) =
            (is_kept, self.has_missed, self.keeping.active.upgrade())
        {
            active.may_have_changed(self.keeping.owner(), uri);
        }
        Ok(is_kept)
    }

    /// Takes a subscription back, unless a legacy client has the same on a pipe that many share.
    async fn end(&self, uri: &str, limits: &Limits) -> Result<(), CallFailure> {
        let is_shared = self.keeping.owner().is_none();
        let active = self.keeping.active.upgrade();
        if is_shared && active.is_none_or(|active| active.health().has_subscribed(uri)) {
            return Ok(());
        }
        // What it answers makes no difference.
        self.line.ask("resources/unsubscribe", uri, limits).await.map(drop)
    }
}

/// The error that an upstream answers a subscription with.
fn refusal(answer: &Message) -> Option<CallFailure> {
    let Kind::Response(Response { outcome: Outcome::Error(error), .. }) = &answer.kind else {
        return None;
    };
    let said =
        era::error_of(answer).map(|error| format!("error {}: {}", error.code, error.message));
    Some(CallFailure::Declined { said: said.unwrap_or_default(), error: answer.slice(*error) })
}

impl Active {
    /// Tells that a resource may have changed while nobody listened.
    pub(super) fn may_have_changed(&self, owner: Option<&SessionKey>, uri: &str) {
        let body = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{}}}}}"#,
            quote(uri)
        );
        if let Ok(message) = crate::mcp::message::parse(body.into()) {
            self.resource_updated(owner, message);
        }
    }
}
