//! Whose session with the upstream a call is made in, and what a viewer is shown.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use proto::Era;
use tokio::runtime::Handle;

use super::{HttpUpstream, Session};
use crate::{
    mcp::{Capabilities, Declared},
    upstream::{
        Call, SessionKey, era::Handshake, failure::CallFailure, fetch::Bounds, lister::Lister,
        private::Viewer,
    },
};

impl HttpUpstream {
    /// The session that the call belongs to; `None` where there are none. A server of both eras
    /// serves a legacy client as if it was there itself.
    pub(super) async fn session_for(
        &self,
        spoken: &Handshake,
        call: &Call,
        bounds: Bounds,
    ) -> Result<Option<Arc<Session>>, CallFailure> {
        match (spoken.era, &call.session, call.client_era) {
            (Era::Legacy, _, _) => self.session(call, bounds).await.map(Some),
            (Era::Modern, SessionKey::Client(_), Era::Legacy)
                // Tasks are known by the era that the configuration names.
                if call.tasks.is_none()
                    && (!self.is_modern_only.load(Relaxed)
                        || self.sessions.peek(&call.session).is_some()) =>
            {
                match self.session(call, bounds).await {
                    Ok(session) => Ok(Some(session)),
                    Err(failure) if failure.is_refused_handshake() => {
                        tracing::debug!(%failure, "no session in a modern upstream");
                        self.is_modern_only.store(true, Relaxed);
                        Ok(None)
                    }
                    Err(failure) => Err(failure),
                }
            }
            (Era::Modern, _, _) => Ok(None),
        }
    }

    /// The connection over which a viewer's calls are made, see [`Self::session_for`].
    pub(crate) async fn lister_of(
        &self,
        viewer: &Viewer,
        bounds: Bounds,
    ) -> Result<Lister, CallFailure> {
        let Viewer { key, declared, era, subject: _ } = viewer;
        let spoken = self.spoken(bounds).await?;
        let endpoint = Arc::clone(&self.endpoint);
        let session = match (spoken.era, key, era) {
            (Era::Legacy, _, _) => Some(self.session_of(key, declared.clone()).await?),
            (Era::Modern, SessionKey::Client(_), Era::Legacy)
                if !self.is_modern_only.load(Relaxed) || self.sessions.peek(key).is_some() =>
            {
                match self.session_of(key, declared.clone()).await {
                    Ok(session) => Some(session),
                    // The first call will note it.
                    Err(failure) if failure.is_refused_handshake() => None,
                    Err(failure) => return Err(failure),
                }
            }
            (Era::Modern, _, _) => None,
        };
        if let Some(session) = session {
            return Ok(Lister::Session(endpoint, session));
        }
        let able = declared.known.without(Capabilities::of(&["roots.listChanged"]));
        Ok(Lister::Modern(endpoint, Handshake::clone(&spoken), able))
    }

    /// The session that the call belongs to.
    async fn session(&self, call: &Call, bounds: Bounds) -> Result<Arc<Session>, CallFailure> {
        let session = match self.sessions.enter(&call.session) {
            Some(session) => session,
            None => {
                Box::pin(bounds.within(self.session_of(&call.session, call.declared_by_session())))
                    .await??
            }
        };
        if let Some(level) = call.logs.level() {
            Box::pin(session.want_logs(level, &call.session)).await;
        }
        Ok(session)
    }

    /// The session of `key`, opened as one of a client that declares this if there is none.
    pub(crate) async fn session_of(
        &self,
        key: &SessionKey,
        declared: Declared,
    ) -> Result<Arc<Session>, CallFailure> {
        let endpoint = Arc::clone(&self.endpoint);
        let owner = key.clone();
        let open = || async move {
            let session = Arc::new(Session::open(endpoint, declared).await?);
            session.listen(owner).await;
            Ok(session)
        };
        self.sessions.get(key, Handle::current, open).await
    }
}
