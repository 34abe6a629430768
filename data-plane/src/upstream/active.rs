//! One configured upstream at work: its adapter and what is known of its health.

mod activate;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::resource::{CredentialResource, UpstreamResource};

use super::{
    Call, Event, Events, Reply, SessionKey,
    call::{Conversation, Source},
    detected::{Detected, DetectedUpstream},
    failure::{CallError, CallFailure},
    fetch::Bounds,
    health::Health,
    http::Answer,
    keeper::Keepers,
    lister::Lister,
    pipe::PipeUpstream,
};
use crate::{
    discovery::Remembered,
    mcp::{Capabilities, Level},
};

/// An upstream while its configuration is unchanged.
#[derive(Debug)]
pub(crate) struct Active {
    resource: UpstreamResource,
    credential: Option<CredentialResource>,
    health: Arc<Health>,
    pub(super) adapter: Adapter,
    /// What the last costly discovery saw.
    pub(crate) remembered: Mutex<Option<Remembered>>,
    /// Who hears of changes for whom.
    pub(super) keepers: Keepers,
}

/// One adapter per kind.
#[derive(Debug)]
pub(super) enum Adapter {
    Http(Box<DetectedUpstream>),
    Pipe(Arc<PipeUpstream>),
    /// It cannot work here, for this reason.
    Refused(CallFailure),
}

impl Active {
    pub(crate) fn id(&self) -> &str {
        &self.resource.id
    }

    pub(crate) fn name(&self) -> &str {
        self.resource.name.as_str()
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Whether `resource` asks for what is here already. What discovery found out is no
    /// configuration.
    pub(super) fn is_configured_as(
        &self,
        resource: &UpstreamResource,
        credential: Option<&CredentialResource>,
    ) -> bool {
        let UpstreamResource {
            id,
            name,
            transport,
            credential_id: _,
            catalog_scope: _,
            era: _,
            protocol_version: _,
            instructions: _,
            disabled,
            capabilities: _,
        } = resource;
        *id == self.resource.id
            && *name == self.resource.name
            && *transport == self.resource.transport
            && *disabled == self.resource.disabled
            && credential == self.credential.as_ref()
    }

    /// Takes over what another proxy found out, if nothing is known here.
    pub(super) fn adopt(&self, resource: &UpstreamResource) {
        if let (Adapter::Http(http), Some(era)) = (&self.adapter, resource.era) {
            http.adopt(era, &resource.protocol_version);
        }
    }

    pub(super) async fn call(&self, call: &Call, bounds: Bounds) -> Result<Reply, CallError> {
        let bounds = if call.target.is_waiting() { bounds.patient() } else { bounds };
        let answered = self.answer(call, bounds).await;
        self.health.note(&answered);
        answered.map_err(|failure| CallError { upstream: self.name().to_owned(), failure })
    }

    /// Sends a call; the caller notes what it means for the upstream's health.
    pub(super) async fn answer(&self, call: &Call, bounds: Bounds) -> Result<Reply, CallFailure> {
        let (first, source) = match &self.adapter {
            Adapter::Http(http) => match http.call(call, bounds).await? {
                Detected::Http(Answer::Whole(body)) | Detected::Pipe(Event::Response(body), _) => {
                    return Ok(Reply::Response(body));
                }
                Detected::Http(Answer::Input(message)) => (Event::InputRequired(message), None),
                Detected::Http(Answer::Stream(first, conversation)) => {
                    (first, Some(Conversation::Http(conversation)))
                }
                Detected::Pipe(first, conversation) => {
                    (first, Some(Conversation::Pipe(conversation)))
                }
            },
            Adapter::Pipe(pipe) => match pipe.call(call, bounds).await? {
                (Event::Response(body), _) => return Ok(Reply::Response(body)),
                (first, conversation) => (first, Some(Conversation::Pipe(Box::new(conversation)))),
            },
            Adapter::Refused(failure) => return Err(failure.clone()),
        };
        Ok(Reply::Events(Events {
            upstream: self.name().to_owned(),
            health: Arc::clone(&self.health),
            first: Some(first),
            source: source.map(Source::Plain),
        }))
    }

    /// A reply that comes from here.
    pub(super) fn reply(&self, source: Source) -> Reply {
        let (upstream, health) = (self.name().to_owned(), Arc::clone(&self.health));
        Reply::Events(Events { upstream, health, first: None, source: Some(source) })
    }

    /// A connection of our own as a client with these capabilities, with a fresh look at
    /// transport and era.
    pub(crate) async fn lister(&self, capabilities: Capabilities) -> Result<Lister, CallFailure> {
        match &self.adapter {
            Adapter::Http(http) => http.lister(capabilities).await,
            Adapter::Pipe(pipe) => {
                let link = pipe.lister(capabilities).await?;
                Ok(Lister::Pipe(link, capabilities))
            }
            Adapter::Refused(failure) => Err(failure.clone()),
        }
    }

    /// The same of a process of its own, even where all share one.
    pub(crate) async fn glimpse(&self, capabilities: Capabilities) -> Result<Lister, CallFailure> {
        match &self.adapter {
            Adapter::Pipe(pipe) => {
                let link = pipe.glimpse(capabilities).await?;
                Ok(Lister::Pipe(link, capabilities))
            }
            Adapter::Http(_) | Adapter::Refused(_) => self.lister(capabilities).await,
        }
    }

    /// Whether one pipe takes everybody's calls.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(&self.adapter, Adapter::Pipe(pipe) if pipe.is_shared())
    }

    pub(crate) fn notify_session(&self, key: &SessionKey, body: &bytes::Bytes) {
        match &self.adapter {
            Adapter::Http(http) => {
                if let Some(session) = http.session(key) {
                    session.say(body.clone());
                }
                http.stream().notify_session(key, body);
            }
            Adapter::Pipe(pipe) => pipe.notify_session(key, body),
            Adapter::Refused(_) => (),
        }
    }

    pub(super) fn want_logs(&self, key: &SessionKey, level: Level) {
        match &self.adapter {
            Adapter::Http(http) => {
                if let Some(session) = http.session(key) {
                    let key = key.clone();
                    tokio::spawn(async move { session.want_logs(level, &key).await });
                }
                http.stream().want_logs(key, level);
            }
            Adapter::Pipe(pipe) => pipe.want_logs(key, level),
            Adapter::Refused(_) => (),
        }
    }

    pub(super) fn close_session(&self, key: &SessionKey) {
        self.health.private().forget(key);
        match &self.adapter {
            Adapter::Http(http) => http.close_session(key),
            Adapter::Pipe(pipe) => pipe.close_session(key),
            Adapter::Refused(_) => (),
        }
    }

    /// Ends sessions and children when the calls in flight are done.
    pub(super) fn close(&self) {
        self.keepers.end();
        match &self.adapter {
            Adapter::Http(http) => http.close(),
            Adapter::Pipe(pipe) => pipe.close(),
            Adapter::Refused(_) => (),
        }
    }

    pub(super) fn sweep(&self, idle: Duration) {
        self.keepers.sweep();
        self.health.private().sweep(idle);
        match &self.adapter {
            Adapter::Http(http) => http.sweep(idle),
            Adapter::Pipe(pipe) => pipe.sweep(idle),
            Adapter::Refused(_) => (),
        }
    }

    /// How many sessions, connections and children it has.
    pub(super) fn open_count(&self) -> usize {
        match &self.adapter {
            Adapter::Http(http) => http.open_count(),
            Adapter::Pipe(pipe) => pipe.open_count(),
            Adapter::Refused(_) => 0,
        }
    }
}
