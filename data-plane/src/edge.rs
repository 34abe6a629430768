//! What happens to a request, in order: its path, who may send it, and who answers it.

mod ops;
mod path;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use self::path::{Path, RootPath};
use crate::{
    config::{Config, Limits, Timeouts},
    connection::Door,
    drain::Drain,
    error::Failure,
    forward::{Forward, ForwardError, is_grpc},
    stream::Served,
    telemetry::Telemetry,
    transport::{
        body::{Answer, Body},
        headers::{self, Trust},
        response,
    },
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
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) door: Door,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, door: Door) -> Self {
        Self { peer, door }
    }
}

impl Edge {
    pub(crate) fn new(config: &Config, drain: Drain) -> Self {
        let trust = Trust {
            hosts: config.allowed_hosts.clone(),
            origins: config.allowed_origins.clone(),
            proxies: config.trusted_proxies.clone(),
        };
        Self {
            trust,
            root_path: RootPath::new(&config.root_path),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            telemetry: Arc::default(),
            drain,
            forward: Forward::new(config.management.clone()),
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
        &self,
        request: Request<Incoming>,
        client: &Client,
        served: Served,
    ) -> Result<Response<Answer>, Infallible> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.dispatch(request, client).await {
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
        if self.drain.is_leaving() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|body| Answer::new(body, served)))
    }

    async fn dispatch(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> Result<Response<Body>, Failure> {
        if request.uri().path().len() > self.limits.url_bytes {
            return Err(Failure::UrlTooLong { limit: self.limits.url_bytes });
        }
        let path = self.root_path.parse(request.uri().path());
        match path {
            Path::Health => return Ok(ops::health()),
            Path::Ready => return Ok(self.ready()),
            Path::Metrics if client.door == Door::Ops => return Ok(self.metrics()),
            _ if client.door == Door::Ops => return Err(Failure::NotFound),
            _ => {}
        }
        self.trust.check(&request, client.peer.ip(), client.door)?;
        if headers::is_preflight(request.method()) {
            let mut response = response::empty(StatusCode::NO_CONTENT);
            headers::preflight(request.headers(), response.headers_mut());
            return Ok(response);
        }
        match path {
            _ if is_grpc(request.headers()) => self.forward(request, client).await,
            Path::Mcp(_) | Path::Metrics => Err(Failure::NotConfigured),
            Path::WellKnown => Err(Failure::NotFound),
            Path::Health | Path::Ready | Path::Other => self.forward(request, client).await,
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
