//! Makes the objects that configured upstreams are at work.

use std::sync::Arc;

use ::http::{HeaderMap, Uri};
use parking_lot::Mutex;
use proto::{
    resource::{CredentialResource, UpstreamResource},
    upstream::{self, Transport},
};
use url::Url;

use super::{Active, Adapter};
use crate::{
    egress::Provenance,
    upstream::{
        AllowStdio, Upstreams, credential,
        detected::DetectedUpstream,
        event_stream::EventStream,
        failure::CallFailure,
        health::Health,
        http::{Endpoint, HttpUpstream},
        keeper::Keepers,
        pipe::{Opener, PipeUpstream},
        spawner::Program,
        stdio::Stdio,
        websocket::WebSocket,
    },
};

impl Upstreams {
    /// Makes the object for one upstream; nothing is connected or started yet.
    pub(in crate::upstream) fn activate(
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
