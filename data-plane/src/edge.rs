//! What happens to a request, in order: its path, who may send it, and who answers it.

pub(crate) mod batch;
mod elsewhere;
mod ended;
mod events;
mod hosting;
mod known;
mod mcp;
mod ops;
mod path;
mod places;
mod private;
mod rpc;
mod websocket;

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Weak},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use self::{
    events::Streams,
    path::{Path, RootPath},
    places::Places,
};
pub(crate) use self::{
    known::{Client, Known},
    mcp::{now_ms, parse},
    places::Place,
    private::{Caller, is_private},
};
use crate::{
    auth,
    config::{Config, Limits, Source, Stdio, Timeouts},
    connection::Door,
    drain::Drain,
    engine::{kept::KeptTasks, parked::ParkedCalls},
    error::Failure,
    forward::{Forward, ForwardError, is_grpc},
    limit::{self, Limiter},
    peer::{Peers, herald, outbox::Outbox},
    sessions::Sessions,
    snapshot::{current::Current, table::Table},
    solo::Answers,
    stream::Served,
    telemetry::Telemetry,
    transport::{
        body::{Answer, Body},
        headers::{self, Trust},
        response,
    },
    upstream::{SessionKey, Upstreams},
};

/// Everything that serving a request needs.
pub(crate) struct Edge {
    trust: Trust,
    root_path: RootPath,
    limits: Limits,
    timeouts: Timeouts,
    telemetry: Arc<Telemetry>,
    drain: Drain,
    forward: Forward,
    proxy_id: String,
    current: Arc<Current>,
    upstreams: Arc<Upstreams>,
    sessions: Arc<Sessions>,
    parked: Arc<ParkedCalls>,
    kept: Arc<KeptTasks>,
    peers: Arc<Peers>,
    outbox: Arc<Outbox>,
    limiter: Arc<Limiter>,
    places: Places,
    /// Open pipes of HTTP+SSE, by the id in their endpoint.
    streams: Arc<Streams>,
    auth_cache: Arc<auth::Cache>,
    answers: Answers,
    stdio: Stdio,
}

/// The parts of a proxy that the edge shares with others.
pub(crate) struct Shared {
    pub(crate) drain: Drain,
    pub(crate) proxy_id: String,
    pub(crate) current: Arc<Current>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) outbox: Arc<Outbox>,
}

impl Edge {
    pub(crate) fn new(config: &Config, shared: Shared) -> Self {
        let Shared { drain, proxy_id, current, upstreams, outbox } = shared;
        let trust = Trust {
            hosts: config.allowed_hosts.clone(),
            origins: config.allowed_origins.clone(),
            proxies: config.trusted_proxies.clone(),
        };
        let sessions = Arc::new(Sessions::default());
        for ended in outbox.waiting(None, now_ms()) {
            sessions.end(ended.id, ended.expire_time_ms);
        }
        let audience: Weak<Sessions> = Arc::downgrade(&sessions);
        upstreams.admit(audience);
        let (root_path, answers) = match &config.source {
            Source::ControlPlane(_) => (RootPath::new(&config.root_path), Answers::AsFits),
            Source::Upstream(solo) => (RootPath::with(&solo.entrances), solo.answers),
        };
        Self {
            trust,
            root_path,
            answers,
            stdio: config.stdio,
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            telemetry: Arc::default(),
            drain,
            forward: Forward::new(config.management.clone()),
            parked: Arc::new(ParkedCalls::new(&proxy_id, config.timeouts.session_idle)),
            kept: Arc::default(),
            proxy_id,
            current,
            upstreams,
            sessions,
            peers: Arc::default(),
            outbox,
            limiter: Limiter::new(&limit::Limits::default()),
            places: Places::new(config.limits.streams_per_principal),
            streams: Arc::default(),
            auth_cache: Arc::default(),
        }
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.drain
    }

    pub(crate) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    pub(crate) fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Calls that wait for their clients.
    pub(crate) fn kept(&self) -> &Arc<KeptTasks> {
        &self.kept
    }

    pub(crate) fn parked(&self) -> &Arc<ParkedCalls> {
        &self.parked
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Sessions that were deleted here.
    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Ends the sessions that their clients have deleted at other proxies.
    pub(crate) fn end_sessions(&self, table: &Table) {
        for id in self.sessions.end_where(|id| table.has_ended(id)) {
            self.upstreams.close_session(&SessionKey::Client(id));
        }
    }

    /// Forgets idle and expired sessions.
    pub(crate) fn sweep(&self) {
        let now_ms = now_ms();
        let idle = i64::try_from(self.timeouts.session_idle.as_millis()).unwrap_or(i64::MAX);
        let table = self.current.load();
        if let Some(table) = &table {
            self.peers.sweep(table);
        }
        self.parked.sweep();
        self.kept.sweep();
        let is_known = |id: &_| table.as_ref().is_some_and(|table| table.has_ended(id));
        for id in self.sessions.sweep(now_ms, now_ms.saturating_sub(idle), is_known) {
            self.upstreams.close_session(&SessionKey::Client(id));
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// How many connections an address may have; `None`: any number.
    pub(crate) fn connections_allowed(&self, address: IpAddr) -> Option<u32> {
        let exempt = address.to_canonical().is_loopback() || self.trust.is_trusted(address);
        (!exempt).then_some(self.limits.connections_per_ip)
    }

    /// Answers one request; never fails, since failures are answers too.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Client,
        served: Served,
    ) -> Result<Response<Answer>, Infallible> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.dispatch(request, client, &served).await {
            Ok(response) => response,
            Err(failure) => {
                failure.log();
                self.telemetry.refused(&failure);
                response::plain_failure(&failure)
            }
        };
        if let Some(origin) = origin
            && response.status() != StatusCode::FORBIDDEN
        {
            headers::allow_origin(origin, response.headers_mut());
        }
        if self.drain.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|body| Answer::new(body, served)))
    }

    async fn dispatch(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Client,
        served: &Served,
    ) -> Result<Response<Body>, Failure> {
        if request.uri().path().len() > self.limits.url_bytes {
            return Err(Failure::UrlTooLong { limit: self.limits.url_bytes });
        }
        let path = self.root_path.parse(request.uri().path());
        match (&path, client.door) {
            (Path::Health, _) => return Ok(ops::health()),
            (Path::Ready, _) => return Ok(self.ready()),
            (Path::Metrics, Door::Ops) => return Ok(self.metrics()),
            // The proxy that passes it on has judged it.
            (Path::Mcp(..), Door::Peer) => {}
            (_, Door::Peer) if request.uri().path() == herald::PATH => {
                return Box::pin(self.ended_elsewhere(request)).await;
            }
            (_, Door::Ops | Door::Peer) => return Err(Failure::NotFound),
            (_, Door::Public | Door::Loopback) => {
                self.trust.check(&request, client.peer.ip(), client.door)?;
                if headers::is_preflight(request.method()) {
                    let mut response = response::empty(StatusCode::NO_CONTENT);
                    headers::preflight(request.headers(), response.headers_mut());
                    return Ok(response);
                }
                if is_grpc(request.headers()) {
                    return Box::pin(self.forward(request, client)).await;
                }
            }
        }
        match path {
            Path::Mcp(transport, endpoint) => {
                Ok(self.mcp(request, client, served, (transport, endpoint)).await)
            }
            Path::Metrics => Box::pin(self.metrics_for(request.headers())).await,
            Path::WellKnown => Err(Failure::NotFound),
            Path::Health | Path::Ready | Path::Other => {
                Box::pin(self.forward(request, client)).await
            }
        }
    }

    /// Passes a request on to the control plane, where this proxy does that.
    async fn forward(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> Result<Response<Body>, Failure> {
        let address = self.trust.client(client.peer, request.headers());
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.root_path.strip(request.uri_mut());
        match self.forward.send(request, address).await {
            Ok(response) => Ok(response.map(Body::Forwarded)),
            Err(ForwardError::Off) => Err(Failure::NotFound),
            Err(error @ (ForwardError::Unreachable(_) | ForwardError::Target(_))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "not forwarded");
                Err(Failure::Management)
            }
        }
    }
}
