//! An upstream behind an HTTP URL: Streamable HTTP, or HTTP+SSE if the server has only that
//! (MCP 2025-11-25, transports: backwards compatibility).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use proto::Era;
use tokio::time::Instant;

use super::{
    Call, Event, SessionKey,
    failure::CallFailure,
    fetch::Bounds,
    http::{Answer, Endpoint, HttpUpstream, Session},
    keeper::Line,
    lister::Lister,
    pipe::{PipeConversation, PipeUpstream},
    private::Viewer,
};
use crate::mcp::{Capabilities, Declared};

/// How long it is believed that a URL gives no event stream.
const RETRY: Duration = Duration::from_mins(1);

/// Both ways to one URL.
#[derive(Debug)]
pub(crate) struct DetectedUpstream {
    streamable: HttpUpstream,
    stream: Arc<PipeUpstream>,
    /// The server has only the event stream.
    is_stream: AtomicBool,
    /// When the stream was asked for last, in vain.
    tried_at: Mutex<Option<Instant>>,
}

/// What a call got.
pub(crate) enum Detected {
    Http(Answer),
    Pipe(Event, Box<PipeConversation>),
}

impl DetectedUpstream {
    pub(crate) fn new(streamable: HttpUpstream, stream: Arc<PipeUpstream>) -> Self {
        Self { streamable, stream, is_stream: AtomicBool::new(false), tried_at: Mutex::default() }
    }

    /// Believes what the configuration says, if nothing is known yet.
    pub(crate) fn adopt(&self, era: Era, version: &str) {
        self.streamable.adopt(era, version);
    }

    /// Sends a call over the transport that the server has.
    pub(crate) async fn call(&self, call: &Call, bounds: Bounds) -> Result<Detected, CallFailure> {
        if !self.is_stream.load(Ordering::Relaxed) {
            let answered = self.streamable.call(call, bounds).await;
            // What was refused has not been done.
            let is_refused = answered.as_ref().is_err_and(takes_no_post);
            if !is_refused || !Box::pin(self.has_stream(bounds)).await {
                return answered.map(Detected::Http);
            }
        }
        let (first, conversation) = Box::pin(self.stream.call(call, bounds)).await?;
        Ok(Detected::Pipe(first, Box::new(conversation)))
    }

    /// Asks for an event stream, unless that was in vain a moment ago.
    async fn has_stream(&self, bounds: Bounds) -> bool {
        let tried = *self.tried_at.lock();
        if tried.is_some_and(|at| at.elapsed() < RETRY) {
            return false;
        }
        let found =
            matches!(bounds.within(self.stream.lister(Capabilities::NONE)).await, Ok(Ok(_)));
        *self.tried_at.lock() = (!found).then(Instant::now);
        self.is_stream.store(found, Ordering::Relaxed);
        found
    }

    /// A connection of our own, with a fresh look at transport and era.
    pub(crate) async fn lister(&self, capabilities: Capabilities) -> Result<Lister, CallFailure> {
        match self.streamable_lister(capabilities).await {
            Err(failure) if takes_no_post(&failure) => match self.stream.lister(capabilities).await
            {
                Ok(link) => {
                    self.is_stream.store(true, Ordering::Relaxed);
                    Ok(Lister::Pipe(link, capabilities))
                }
                // What the URL was taken for tells people more.
                Err(_) => Err(failure),
            },
            listed => {
                self.is_stream.store(false, Ordering::Relaxed);
                listed
            }
        }
    }

    /// The connection over which a viewer's calls are made.
    pub(crate) async fn lister_of(
        &self,
        viewer: &Viewer,
        bounds: Bounds,
    ) -> Result<Lister, CallFailure> {
        if !self.is_stream.load(Ordering::Relaxed) {
            let listed = self.streamable.lister_of(viewer, bounds).await;
            let is_refused = listed.as_ref().is_err_and(takes_no_post);
            if !is_refused || !self.has_stream(bounds).await {
                return listed;
            }
        }
        let whose = (viewer.declared.clone(), &*viewer.subject);
        let link = self.stream.link_of(&viewer.key, whose).await?;
        Ok(Lister::Pipe(link, viewer.declared.known))
    }

    async fn streamable_lister(&self, capabilities: Capabilities) -> Result<Lister, CallFailure> {
        let endpoint = Arc::clone(self.streamable.endpoint());
        let spoken = self.streamable.probe().await?;
        match spoken.era {
            Era::Modern => Ok(Lister::Modern(endpoint, spoken, capabilities)),
            Era::Legacy => {
                let session = Session::open(Arc::clone(&endpoint), capabilities.into()).await?;
                Ok(Lister::Session(endpoint, Arc::new(session)))
            }
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.streamable.endpoint()
    }

    /// The session of `key` at a legacy server, opened as one of a client that declares this if
    /// there is none.
    pub(crate) async fn line(
        &self,
        key: &SessionKey,
        (declared, subject): (Declared, &str),
    ) -> Result<Line, CallFailure> {
        if self.is_stream.load(Ordering::Relaxed) {
            return self.stream.link_of(key, (declared, subject)).await.map(Line::Pipe);
        }
        let session = self.streamable.session_of(key, declared).await?;
        Ok(Line::Http(Arc::clone(self.endpoint()), session))
    }

    /// A session is of no more use: the next call opens another.
    pub(crate) fn forget_session(&self, key: &SessionKey, session: &Arc<Session>) {
        self.streamable.sessions().forget(key, session);
    }

    /// The Streamable HTTP session of `key`, if it is open.
    pub(crate) fn session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.streamable.sessions().peek(key)
    }

    /// The connections of a server that is found to speak HTTP+SSE.
    pub(crate) fn stream(&self) -> &PipeUpstream {
        &self.stream
    }

    pub(crate) fn close_session(&self, key: &SessionKey) {
        self.streamable.sessions().close(key);
        self.stream.close_session(key);
    }

    pub(crate) fn close(&self) {
        self.streamable.sessions().close_all();
        self.stream.close();
    }

    pub(crate) fn sweep(&self, idle: Duration) {
        self.streamable.sessions().sweep(idle);
        self.stream.sweep(idle);
    }

    /// How many sessions are open.
    pub(crate) fn open_count(&self) -> usize {
        self.streamable.sessions().len() + self.stream.open_count()
    }
}

/// Whether the server answered as one does that has no Streamable HTTP.
fn takes_no_post(failure: &CallFailure) -> bool {
    matches!(failure, CallFailure::HttpStatus { status: 400 | 404 | 405, .. })
}
