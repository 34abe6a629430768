//! One MCP request over HTTP: the rungs of the ladder in order (MCP guide §2.6).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proto::{Permission, Principal, policy};

use super::{
    Client, Edge,
    elsewhere::Asked,
    path::Transport,
    private::{self, Caller},
};
use crate::{
    auth::{self, AuthOutcome},
    engine::{self, Inbound, Sender, Served},
    error::Failure,
    limit::Permit,
    mcp::{
        self, Message,
        message::{ParseError, is_batch},
        version,
        version::InboundEra,
    },
    route::{self, Endpoint},
    snapshot::table::Table,
    solo::Answers,
    stream,
    transport::{
        body::{self, Body},
        headers::{self, Accepts},
        listening,
        pipe::{self, Opening, Pipe},
        response,
    },
};

const ALLOWED: &str = "GET, POST, DELETE";
const NO_STREAM: &str = "there is no stream here to listen on: use the endpoint `mcp`";

impl Edge {
    /// Answers a request on an MCP endpoint; failures are JSON-RPC errors with the request's id.
    pub(super) async fn mcp(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Client,
        served: &stream::Served,
        (transport, endpoint): (Transport, Endpoint),
    ) -> Response<Body> {
        let mut id = None;
        let answered = match transport {
            Transport::Http => self.mcp_steps(request, client, endpoint, &mut id).await,
            // Boxed, so that each request holds no more than the usual one needs.
            Transport::Rpc => Box::pin(self.rpc_steps(request, client, endpoint, &mut id)).await,
            Transport::Stateless => {
                Box::pin(self.stateless(request, client, endpoint, &mut id)).await
            }
            Transport::Events => Box::pin(self.events(request, client, endpoint)).await,
            Transport::Message => Box::pin(self.message(request, client, endpoint, &mut id)).await,
            Transport::WebSocket => {
                Box::pin(self.websocket(request, client, served, endpoint)).await
            }
        };
        match answered {
            Ok(response) => response,
            Err(failure) => {
                failure.log();
                self.telemetry.refused(&failure);
                response::failure(&failure, id.as_deref())
            }
        }
    }

    /// Who asks, and what; the first rungs of the ladder.
    pub(super) async fn sender<'a>(
        &'a self,
        headers: &'a HeaderMap,
        client: &'a Client,
        endpoint: Endpoint,
    ) -> Result<Sender<'a>, Failure> {
        let table = self.current.load().ok_or(Failure::NotConfigured)?;
        let now_ms = now_ms();
        let principal = self.principal(&table, headers, now_ms).await?;
        if !policy::is_allowed(principal.role, Permission::Call) {
            return Err(Failure::Forbidden);
        }
        route::view(&table, &endpoint)?;
        let headers = Some(headers);
        Ok(Sender {
            edge: self,
            client,
            table,
            principal,
            endpoint,
            headers,
            now_ms,
            private: None,
        })
    }

    async fn mcp_steps(
        &self,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
        id: &mut Option<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let mut sender = self.sender(headers, client, endpoint).await?;
        if let Some(asked) = Asked::by(&parts.method)
            && let Some(answer) = self.elsewhere(&sender, &parts, asked).await?
        {
            return Ok(answer);
        }
        if parts.method != Method::POST {
            return Box::pin(self.without_body(&sender, &parts.method, headers)).await;
        }
        headers::check_content(headers)?;
        let accepts = self.accepts(headers)?;
        let body = body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
        if is_batch(&body) {
            return match self.elsewhere(&sender, &parts, Asked::Batch(&body)).await? {
                Some(answer) => Ok(answer),
                None => Box::pin(self.batch((sender, &parts), accepts, &body)).await,
            };
        }
        let message = parse(body, id)?;
        let era = version::era_of(&message, &engine::legacy::mirror_headers(headers))?;
        if let InboundEra::Legacy { header: _ } = era
            && let Some(answer) = self.elsewhere(&sender, &parts, Asked::Message(&message)).await?
        {
            return Ok(answer);
        }
        if let Some(answer) = self.at_its_place(&sender, &parts, &message, &era).await? {
            return Ok(answer);
        }
        if private::is_private(&sender, &message)
            && let Some(caller) = Caller::over_http(&sender, &era)
        {
            // Boxed, since nearly no request needs it.
            Box::pin(self.look(&mut sender, &message, &caller)).await;
        }
        match era {
            InboundEra::Legacy { header: _ } => {
                let served = engine::legacy::serve(Inbound { sender, message })?;
                rendered(served, accepts, self.timeouts.keep_alive).await
            }
            InboundEra::Modern { version, capabilities } => {
                let client = route::Client { version, capabilities };
                self.modern(Inbound { sender, message }, client, accepts).await
            }
        }
    }

    /// Answers a modern message whose headers have been checked as far as they repeat it.
    pub(super) async fn modern(
        &self,
        inbound: Inbound<'_>,
        client: route::Client,
        accepts: Accepts,
    ) -> Result<Response<Body>, Failure> {
        if inbound.message.method() == Some(&mcp::Method::Listen) {
            return self.subscribed(inbound, client);
        }
        let interval = self.timeouts.keep_alive;
        let unknown = inbound.message.method().filter(|it| matches!(it, mcp::Method::Unknown(_)));
        let unknown = unknown.cloned();
        match engine::modern::serve(inbound, client)? {
            Served::Relay(exchange) => {
                let response = response::relay(exchange, accepts, interval).await;
                Ok(response::with_pinned_status(response, unknown.as_ref()))
            }
            served @ (Served::Answer(_)
            | Served::Began { .. }
            | Served::Listening(_)
            | Served::Accepted) => rendered(served, accepts, interval).await,
        }
    }

    /// Answers a request that carries no message.
    async fn without_body(
        &self,
        sender: &Sender<'_>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        match *method {
            Method::GET => self.session_stream(sender, headers),
            Method::DELETE => self.delete(sender).await,
            _ => Err(Failure::Method(ALLOWED)),
        }
    }

    /// Which media types a client gets.
    pub(super) fn accepts(&self, headers: &HeaderMap) -> Result<Accepts, Failure> {
        match (Accepts::of(headers)?, self.answers) {
            (Accepts::Both, Answers::Json) => Ok(Accepts::Json),
            (accepts, Answers::AsFits | Answers::Json) => Ok(accepts),
        }
    }

    /// Answers a `GET` with a stream of the session.
    fn session_stream(
        &self,
        sender: &Sender<'_>,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        headers::check_takes_events(headers)?;
        let place = self.place(sender)?;
        let (reader, version) = engine::legacy::listen(sender)?;
        Ok(response::listening((reader, place), version, self.timeouts.keep_alive))
    }

    /// Answers a `subscriptions/listen`, for as long as its client listens and may.
    fn subscribed(
        &self,
        inbound: Inbound<'_>,
        client: route::Client,
    ) -> Result<Response<Body>, Failure> {
        // There is no other form of it, whatever the others have.
        inbound.sender.headers.map_or(Ok(()), headers::check_takes_events)?;
        let place = self.place(&inbound.sender)?;
        match engine::modern::serve(inbound, client)? {
            Served::Listening(hearing) => {
                Ok(listening::render(hearing, place, self.timeouts.keep_alive))
            }
            Served::Answer(_) | Served::Began { .. } | Served::Relay(_) | Served::Accepted => {
                Err(Failure::Internal("a subscription was served as something else"))
            }
        }
    }

    /// Opens a pipe for the sender.
    pub(super) fn pipe(self: &Arc<Self>, sender: &Sender<'_>) -> Result<pipe::End, Failure> {
        let Sender { client, principal, endpoint, headers, .. } = sender;
        let place = self.room(sender)?;
        let authorization = headers.and_then(|headers| headers.get(header::AUTHORIZATION));
        Ok(Pipe::open(Opening {
            edge: Arc::clone(self),
            client: Client::new(client.peer, client.door),
            endpoint: endpoint.clone(),
            principal: Arc::clone(principal),
            authorization: authorization.map(headers::detached),
            place,
        }))
    }

    /// Who shows this of itself.
    pub(crate) async fn principal(
        &self,
        table: &Table,
        shown: impl Into<auth::Shown<'_>>,
        now_ms: i64,
    ) -> Result<Arc<Principal>, Failure> {
        match auth::authenticate(table, shown, now_ms, &self.auth_cache)? {
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

/// What a message led to, as Streamable HTTP says it.
pub(super) async fn rendered(
    served: Served,
    accepts: Accepts,
    interval: Duration,
) -> Result<Response<Body>, Failure> {
    Ok(match served {
        Served::Answer(answer) => response::message(accepts, answer),
        Served::Began { answer, id } => {
            let mut response = response::message(accepts, answer);
            response.headers_mut().insert(engine::legacy::SESSION_ID, id);
            response
        }
        Served::Relay(exchange) => response::relay(exchange, accepts, interval).await,
        Served::Accepted => response::empty(StatusCode::ACCEPTED),
        Served::Listening(_) => return Err(Failure::InvalidRequest(NO_STREAM)),
    })
}

/// Reads a message, and notes its id for errors about it.
pub(crate) fn parse(body: Bytes, id: &mut Option<Bytes>) -> Result<Message, Failure> {
    let message = mcp::message::parse(body).map_err(|error| match error {
        ParseError::NotText => Failure::NotText,
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
