//! One configured upstream at work: its adapter and what is known of its health.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::{
    Era,
    resource::{CredentialResource, UpstreamResource},
    upstream::{Stdio, Transport},
};

use super::{
    AllowStdio, Call, Event, Events, Limits, Reply, SessionKey, Upstreams,
    call::Source,
    credential,
    era::{Handshake, Speech},
    failure::{CallError, CallFailure},
    fetch::Bounds,
    health::Health,
    http::{Answer, Endpoint, HttpUpstream, Session},
    spawner::Program,
    stdio::{Link, StdioUpstream},
};
use crate::{
    discovery::Remembered,
    egress::Provenance,
    mcp::{Capabilities, Message},
};

/// An upstream while its configuration is unchanged.
#[derive(Debug)]
pub(crate) struct Active {
    resource: UpstreamResource,
    credential: Option<CredentialResource>,
    health: Arc<Health>,
    adapter: Adapter,
    /// What the last costly discovery saw.
    pub(crate) remembered: Mutex<Option<Remembered>>,
}

/// One adapter per kind.
#[derive(Debug)]
enum Adapter {
    Http(HttpUpstream),
    Stdio(Arc<StdioUpstream>),
    /// It cannot work here, for this reason.
    Refused(CallFailure),
}

/// A connection of our own over which the catalog is read.
#[derive(Debug)]
pub(crate) enum Lister {
    Modern(Arc<Endpoint>, Handshake, Capabilities),
    Session(Arc<Endpoint>, Session),
    /// The shared child, or one of its own.
    Child(Arc<Link>, Capabilities),
}

impl Upstreams {
    /// Makes the object for one upstream; nothing is connected or started yet.
    pub(super) fn activate(
        &self,
        resource: &UpstreamResource,
        credential: Option<&CredentialResource>,
    ) -> Active {
        let health =
            Arc::new(Health::new(resource.id.clone(), self.signals.clone(), self.stage.clone()));
        let adapter = self.adapter(resource, credential, &health);
        Active {
            resource: resource.clone(),
            credential: credential.cloned(),
            adapter: adapter.unwrap_or_else(Adapter::Refused),
            health,
            remembered: Mutex::new(None),
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
        let health = Arc::clone(health);
        match &resource.transport {
            Transport::Http { url } => {
                let uri = url.as_str().parse();
                let uri =
                    uri.map_err(|_| CallFailure::Initialize("its URL is not valid".to_owned()))?;
                let mut secrets = ::http::HeaderMap::new();
                credential::add_to(&mut secrets, None, credential);
                let client = self.egress.client(Provenance::Registered);
                let shared = (health, self.farewells.clone());
                let endpoint = Endpoint::new(client, uri, secrets, self.limits, shared);
                let era = resource.era.map(|era| (era, resource.protocol_version.as_str()));
                Ok(Adapter::Http(HttpUpstream::new(endpoint, era)))
            }
            Transport::Stdio(_) if self.allow_stdio == AllowStdio::No => {
                Err(CallFailure::StdioRefused)
            }
            Transport::Stdio(stdio) => {
                let program = self.program(resource, stdio, credential);
                let spawner = self.spawner()?;
                let upstream =
                    StdioUpstream::new(spawner, program, self.limits, health, resource.era);
                Ok(Adapter::Stdio(Arc::new(upstream)))
            }
        }
    }

    fn program(
        &self,
        resource: &UpstreamResource,
        stdio: &Stdio,
        credential: Option<&CredentialResource>,
    ) -> Program {
        let Stdio { command, args, env, working_directory } = stdio;
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

impl Active {
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

    pub(super) async fn call(&self, call: &Call, limits: &Limits) -> Result<Reply, CallError> {
        let answered = self.answer(call, Bounds::of_call(limits)).await;
        self.health.note(&answered);
        answered.map_err(|failure| CallError { upstream: self.name().to_owned(), failure })
    }

    async fn answer(&self, call: &Call, bounds: Bounds) -> Result<Reply, CallFailure> {
        let (first, source) = match &self.adapter {
            Adapter::Http(http) => match http.call(call, bounds).await? {
                Answer::Whole(body) => return Ok(Reply::Response(body)),
                Answer::Stream(first, conversation) => (first, Source::Http(conversation)),
            },
            Adapter::Stdio(stdio) => match stdio.call(call, bounds).await? {
                (Event::Response(body), _) => return Ok(Reply::Response(body)),
                (first, conversation) => (first, Source::Stdio(Box::new(conversation))),
            },
            Adapter::Refused(failure) => return Err(failure.clone()),
        };
        Ok(Reply::Events(Events {
            upstream: self.name().to_owned(),
            health: Arc::clone(&self.health),
            first: Some(first),
            source: Some(source),
        }))
    }

    /// A connection of our own as a client with these capabilities, with a fresh look at the
    /// era.
    pub(crate) async fn lister(&self, capabilities: Capabilities) -> Result<Lister, CallFailure> {
        match &self.adapter {
            Adapter::Http(http) => {
                let endpoint = Arc::clone(http.endpoint());
                let spoken = http.probe().await?;
                match spoken.era {
                    Era::Modern => Ok(Lister::Modern(endpoint, spoken, capabilities)),
                    Era::Legacy => {
                        let session = Session::open(Arc::clone(&endpoint), capabilities).await?;
                        Ok(Lister::Session(endpoint, session))
                    }
                }
            }
            Adapter::Stdio(stdio) => {
                let shared = stdio.link().await?;
                // The shared child was told of everything.
                let fits = match shared.handshake.era {
                    Era::Modern => true,
                    Era::Legacy => capabilities == Capabilities::all(),
                };
                let link = if fits { shared } else { stdio.glimpse(capabilities).await? };
                Ok(Lister::Child(link, capabilities))
            }
            Adapter::Refused(failure) => Err(failure.clone()),
        }
    }

    pub(super) fn close_session(&self, key: &SessionKey) {
        match &self.adapter {
            Adapter::Http(http) => http.sessions().close(key),
            // A child is shared by all.
            Adapter::Stdio(_) | Adapter::Refused(_) => (),
        }
    }

    /// Ends sessions and child when the calls in flight are done.
    pub(super) fn close(&self) {
        match &self.adapter {
            Adapter::Http(http) => http.sessions().close_all(),
            Adapter::Stdio(stdio) => stdio.close(),
            Adapter::Refused(_) => (),
        }
    }

    pub(super) fn sweep(&self, idle: Duration) {
        match &self.adapter {
            Adapter::Http(http) => http.sessions().sweep(idle),
            Adapter::Stdio(_) | Adapter::Refused(_) => (),
        }
    }
}

impl Lister {
    pub(crate) fn handshake(&self) -> &Handshake {
        match self {
            Self::Modern(_, handshake, _) => handshake,
            Self::Session(_, session) => &session.handshake,
            Self::Child(link, _) => &link.handshake,
        }
    }

    /// Whether tool definitions must be fit for mirror headers (MCP 2026-07-28, transports).
    pub(crate) fn is_http(&self) -> bool {
        match self {
            Self::Modern(..) | Self::Session(..) => true,
            Self::Child(..) => false,
        }
    }

    /// Whether a look as another client takes a process of its own.
    pub(crate) fn is_costly(&self) -> bool {
        matches!(self, Self::Child(link, _) if link.handshake.era == Era::Legacy)
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
                endpoint.ask(Era::Legacy, headers, question, bounds).await?.message
            }
            Self::Child(link, capabilities) => link.ask(*capabilities, question, bounds).await,
        }
    }
}
