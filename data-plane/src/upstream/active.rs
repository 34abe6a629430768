//! One configured upstream at work: its adapter and what is known of its health.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, Uri};
use parking_lot::Mutex;
use proto::{
    Era,
    resource::{CredentialResource, UpstreamResource},
    upstream::{self, Transport},
};
use url::Url;

use super::{
    AllowStdio, Call, Event, Events, Reply, SessionKey, Upstreams,
    call::{Conversation, Source},
    credential,
    detected::{Detected, DetectedUpstream},
    era::{Handshake, Speech},
    event_stream::EventStream,
    failure::{CallError, CallFailure},
    fetch::Bounds,
    health::Health,
    http::{Answer, Endpoint, HttpUpstream, Session},
    keeper::Keepers,
    pipe::{Link, Opener, PipeUpstream},
    spawner::Program,
    stdio::Stdio,
    websocket::WebSocket,
};
use crate::{
    discovery::Remembered,
    egress::Provenance,
    mcp::{Capabilities, Level, Message},
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

/// A connection of our own over which the catalog is read.
#[derive(Debug)]
pub(crate) enum Lister {
    Modern(Arc<Endpoint>, Handshake, Capabilities),
    Session(Arc<Endpoint>, Arc<Session>),
    /// The shared pipe, or one of its own.
    Pipe(Arc<Link>, Capabilities),
}

impl Upstreams {
    /// Makes the object for one upstream; nothing is connected or started yet.
    pub(super) fn activate(
        &self,
        resource: &UpstreamResource,
        credential: Option<&CredentialResource>,
    ) -> Active {
        let news = Arc::clone(&self.news);
        let health = Health::new(resource.id.clone(), news, self.stage.clone());
        let health = Arc::new(health.named(resource.name.as_str()));
        let adapter = self.adapter(resource, credential, &health);
        Active {
            resource: resource.clone(),
            credential: credential.cloned(),
            adapter: adapter.unwrap_or_else(Adapter::Refused),
            health,
            remembered: Mutex::new(None),
            keepers: Keepers::new(self.limits),
        }
    }

    fn adapter(
        &self,
        resource: &UpstreamResource,
        credential: Option<&CredentialResource>,
        health: &Arc<Health>,
    ) -> Result<Adapter, CallFailure> {
        if resource.disabled {
            return Err(CallFailure::Disabled);
        }
        let pipe = |opener| {
            let health = Arc::clone(health);
            Arc::new(PipeUpstream::new(opener, self.limits, health, resource.era))
        };
        match &resource.transport {
            Transport::Http { url } => {
                let endpoint = self.endpoint(url, credential, health)?;
                let stream = EventStream::new(Arc::clone(&endpoint));
                let era = resource.era.map(|era| (era, resource.protocol_version.as_str()));
                let http = HttpUpstream::new(endpoint, era);
                let detected = DetectedUpstream::new(http, pipe(Opener::EventStream(stream)));
                Ok(Adapter::Http(Box::new(detected)))
            }
            Transport::Sse { url } => {
                let stream = EventStream::new(self.endpoint(url, credential, health)?);
                Ok(Adapter::Pipe(pipe(Opener::EventStream(stream))))
            }
            Transport::WebSocket { url } => {
                let mut secrets = HeaderMap::new();
                credential::add_to(&mut secrets, None, credential);
                let socket = WebSocket::new(self.egress.clone(), uri(url)?, secrets);
                Ok(Adapter::Pipe(pipe(Opener::WebSocket(socket))))
            }
            Transport::Stdio(_) if self.allow_stdio == AllowStdio::No => {
                Err(CallFailure::StdioRefused)
            }
            Transport::Stdio(stdio) => {
                let program = self.program(resource, stdio, credential);
                let places = self.limits.children_per_upstream;
                let stdio = Stdio::new(self.spawner()?, program, stdio.mode, places);
                Ok(Adapter::Pipe(pipe(Opener::Stdio(stdio))))
            }
        }
    }

    fn endpoint(
        &self,
        url: &Url,
        credential: Option<&CredentialResource>,
        health: &Arc<Health>,
    ) -> Result<Arc<Endpoint>, CallFailure> {
        let mut secrets = HeaderMap::new();
        credential::add_to(&mut secrets, None, credential);
        let uri = uri(url)?;
        let origin = self.egress.origin(&uri, Provenance::Registered);
        let shared = (Arc::clone(health), self.farewells.clone());
        let endpoint = Endpoint::new(origin, uri, secrets, self.limits, shared);
        Ok(Arc::new(endpoint))
    }

    fn program(
        &self,
        resource: &UpstreamResource,
        stdio: &upstream::Stdio,
        credential: Option<&CredentialResource>,
    ) -> Program {
        let upstream::Stdio { command, args, env, working_directory, mode: _ } = stdio;
        let plain = env.iter().map(|(name, value)| (name.clone(), value.clone().into()));
        let secret =
            credential::variables(credential).map(|(name, value)| (name.to_owned(), value.clone()));
        Program {
            upstream: resource.name.to_string(),
            command: command.clone(),
            args: args.clone(),
            variables: plain.chain(secret).collect(),
            // An absolute directory replaces ours.
            directory: self.data_dir.join(working_directory),
            line_max: self.limits.message_max,
        }
    }
}

fn uri(url: &Url) -> Result<Uri, CallFailure> {
    url.as_str().parse().map_err(|_| CallFailure::Initialize("its URL is not valid".to_owned()))
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

impl Lister {
    pub(crate) fn handshake(&self) -> &Handshake {
        match self {
            Self::Modern(_, handshake, _) => handshake,
            Self::Session(_, session) => &session.handshake,
            Self::Pipe(link, _) => &link.handshake,
        }
    }

    /// Whether tool definitions must be fit for mirror headers (MCP 2026-07-28, transports).
    pub(crate) fn is_http(&self) -> bool {
        match self {
            Self::Modern(..) | Self::Session(..) => true,
            Self::Pipe(..) => false,
        }
    }

    /// Whether it is everybody's, and was opened as one of a client that can do everything.
    pub(crate) fn is_of_all(&self) -> bool {
        matches!(self, Self::Pipe(link, _) if link.is_of_all() && link.handshake.era == Era::Legacy)
    }

    /// Whether it is a process that was told once what its client can do.
    pub(crate) fn is_child_of_legacy_era(&self) -> bool {
        matches!(self, Self::Pipe(link, _) if link.is_child() && link.handshake.era == Era::Legacy)
    }

    /// Whether calls may have changed what it shows.
    pub(crate) fn is_used(&self) -> bool {
        matches!(self, Self::Pipe(link, _) if link.connection.is_used())
    }

    /// Sends a request and waits for its response.
    pub(crate) async fn ask(
        &self,
        method: &str,
        members: &str,
        bounds: &Bounds,
    ) -> Result<Message, CallFailure> {
        let question = (method, members);
        match self {
            Self::Modern(endpoint, _, capabilities) => {
                let headers = endpoint.modern_headers(method, None);
                let speech = Speech::Modern(*capabilities);
                endpoint.ask(speech, headers, question, bounds).await?.message
            }
            Self::Session(endpoint, session) => {
                let headers = session.headers.clone();
                let asked = endpoint.ask(Era::Legacy, headers, question, bounds).await?;
                if session.is_lost_by(&asked) {
                    session.lose();
                    return Err(CallFailure::SessionLost);
                }
                asked.message
            }
            Self::Pipe(link, capabilities) => link.ask(*capabilities, question, bounds).await,
        }
    }
}
