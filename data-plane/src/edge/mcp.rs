//! One MCP request over HTTP: the rungs of the ladder in order (MCP guide §2.6).

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use proto::{Permission, Principal, policy};

use super::{Client, Edge};
use crate::{
    auth::{self, AuthOutcome},
    engine::{self, Inbound, Sender},
    error::Failure,
    limit::Permit,
    mcp::{self, Message, message::ParseError, version, version::InboundEra},
    route::{self, Endpoint},
    snapshot::table::Table,
    transport::{
        body::{self, Body},
        headers::{self, Accepts},
        response,
    },
};

const ALLOWED: &str = "POST, DELETE";

impl Edge {
    /// Answers a request on an MCP endpoint; failures are JSON-RPC errors with the request's id.
    pub(super) async fn mcp(
        &self,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
    ) -> Response<Body> {
        let mut id = None;
        match self.mcp_steps(request, client, endpoint, &mut id).await {
            Ok(response) => response,
            Err(failure) => {
                failure.log();
                self.telemetry.refused(&failure);
                response::failure(&failure, id.as_deref())
            }
        }
    }

    async fn mcp_steps(
        &self,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
        id: &mut Option<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let table = self.current.load().ok_or(Failure::NotConfigured)?;
        let now_ms = now_ms();
        let (parts, body) = request.into_parts();
        let principal = self.principal(&table, &parts.headers, now_ms).await?;
        if !policy::is_allowed(principal.role, Permission::Call) {
            return Err(Failure::Forbidden);
        }
        route::view(&table, &endpoint)?;
        let headers = &parts.headers;
        let sender = Sender { edge: self, client, table, principal, endpoint, headers, now_ms };
        match parts.method {
            Method::POST => {}
            Method::DELETE => return engine::legacy::delete(&sender),
            _ => return Err(Failure::Method(ALLOWED)),
        }
        headers::check_content(headers)?;
        let accepts = Accepts::of(headers)?;
        let body = body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
        let message = parse(body, id)?;
        let era = version::era_of(&message, &engine::legacy::mirror_headers(headers))?;
        let inbound = Inbound { sender, accepts, message };
        match era {
            InboundEra::Legacy { header: _ } => engine::legacy::serve(inbound).await,
            InboundEra::Modern { version, capabilities } => {
                engine::modern::serve(inbound, route::Client { version, capabilities }).await
            }
        }
    }

    /// Who sent these headers.
    pub(super) async fn principal(
        &self,
        table: &Table,
        headers: &HeaderMap,
        now_ms: i64,
    ) -> Result<Arc<Principal>, Failure> {
        match auth::authenticate(table, headers, now_ms, &self.auth_cache)? {
            AuthOutcome::Known(principal) => Ok(principal),
            AuthOutcome::NeedsSlowCheck(check) => {
                let checked = tokio::task::spawn_blocking(move || check.run()).await;
                Ok(checked.map_err(|_| Failure::Internal("a password check panicked"))??)
            }
        }
    }

    /// A place among the running calls. The local machine and trusted proxies share one
    /// address for many callers, so only the proxy's own limit holds for them.
    pub(crate) fn admit(&self, client: &Client, principal: &Principal) -> Result<Permit, Failure> {
        let is_exempt = self.connections_allowed(client.peer.ip()).is_none();
        Ok(self.limiter.enter((!is_exempt).then_some(&principal.subject))?)
    }
}

/// Reads a message, and notes its id for errors about it.
fn parse(body: Bytes, id: &mut Option<Bytes>) -> Result<Message, Failure> {
    let message = mcp::message::parse(body).map_err(|error| match error {
        ParseError::NotJson => Failure::NotJson,
        ParseError::Batch => {
            Failure::InvalidRequest("batches are not supported: send one message per request")
        }
        ParseError::Invalid { problem, id: found } => {
            *id = found;
            Failure::InvalidRequest(problem)
        }
    })?;
    if let mcp::Kind::Request(request) = &message.kind {
        *id = Some(message.slice(request.id));
    }
    Ok(message)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
