//! Requests that another proxy must answer, because the session is its own.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, request};
use http_body_util::Full;
use proto::resource::ProxyResource;

use super::Edge;
use crate::{
    connection::Door,
    engine::{Sender, legacy, modern},
    error::Failure,
    forward,
    mcp::{Kind, Message, Method as McpMethod, version::InboundEra},
    ownership::{self, Adopters, Need},
    peer::{self, Sent, door},
    route,
    session::SessionClaims,
    transport::body::Body,
};

/// Where a call waits that a request goes on with.
enum Holder {
    /// Nowhere that could be reached.
    Nobody,
    This,
    /// Another proxy, which answers.
    Other(Response<Body>),
}

/// What a request with a session asks for.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// `GET`: the stream of the session.
    Stream,
    /// `DELETE`: the end of the session.
    End,
    Message(&'a Message),
    Batch(&'a Bytes),
}

impl Asked<'_> {
    /// What a request without a body asks for.
    pub(super) fn by(method: &Method) -> Option<Self> {
        match *method {
            Method::GET => Some(Self::Stream),
            Method::DELETE => Some(Self::End),
            _ => None,
        }
    }

    fn need(self, sender: &Sender<'_>) -> Need {
        let Self::Message(message) = self else { return Need::Owner };
        let name = match &message.kind {
            Kind::Request(request) => request.params.name.as_ref().and_then(|name| name.as_str()),
            Kind::Notification(_) | Kind::Response(_) => None,
        };
        let view = sender.view().ok();
        if view.is_some_and(|view| !view.private_upstreams().is_empty()) {
            return ownership::private_need(message);
        }
        let tool = name.zip(view).and_then(|(name, view)| view.tool(name));
        ownership::need(message, tool.map(|tool| &**tool))
    }

    fn body(self) -> Bytes {
        match self {
            Self::Stream | Self::End => Bytes::new(),
            Self::Message(message) => message.body().clone(),
            Self::Batch(body) => body.clone(),
        }
    }

    /// The id of a request, raw.
    fn id(self) -> Option<Bytes> {
        let Self::Message(message) = self else { return None };
        match &message.kind {
            Kind::Request(request) => Some(message.slice(request.id)),
            Kind::Notification(_) | Kind::Response(_) => None,
        }
    }

    /// Whether it does no harm to ask a second proxy what a first may have heard.
    fn is_repeatable(self) -> bool {
        match self {
            Self::Stream | Self::End => true,
            Self::Message(_) | Self::Batch(_) => false,
        }
    }
}

impl Edge {
    /// The answer of the proxy that owns the session; `None`: it is to be answered here. So it is
    /// when that proxy is gone: then this one adopts the session.
    pub(super) async fn elsewhere(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        asked: Asked<'_>,
    ) -> Result<Option<Response<Body>>, Failure> {
        let table = &sender.table;
        // One hop: what comes from another proxy is answered here, whoever owns it.
        if sender.client.door == Door::Peer || !table.has_other_proxies(&self.proxy_id) {
            return Ok(None);
        }
        let Some(claims) = legacy::foreign(sender) else { return Ok(None) };
        if asked.need(sender) == Need::Nothing {
            return Ok(None);
        }
        Box::pin(self.asked_elsewhere(sender, parts, asked, &claims)).await
    }

    async fn asked_elsewhere(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        asked: Asked<'_>,
        claims: &SessionClaims,
    ) -> Result<Option<Response<Body>>, Failure> {
        let table = &sender.table;
        let adopters = if table.has_commands() { Adopters::HostsFirst } else { Adopters::Any };
        let ids = (&*self.proxy_id, &*claims.owner);
        let order = ownership::order(ids.0, ids.1, &claims.id, table.proxies(), adopters);
        let answer = self.first_of(&order, sender, parts, asked).await?;
        if answer.is_none() {
            tracing::debug!(owner = &*claims.owner, "adopted a session");
        }
        Ok(answer)
    }

    /// The answer of the first of these proxies that is there; `None` if none is.
    pub(super) async fn first_of(
        &self,
        order: &[Arc<ProxyResource>],
        sender: &Sender<'_>,
        parts: &request::Parts,
        asked: Asked<'_>,
    ) -> Result<Option<Response<Body>>, Failure> {
        for proxy in order {
            let request = self.passed_on(sender, parts, asked.body());
            match self.peers.send(proxy, request).await {
                Sent::Answered(answer) => {
                    let answer = peer::relayed(answer, asked.id());
                    return Ok(Some(match asked {
                        Asked::Stream => peer::until_closing(answer, self.drain.closing()),
                        Asked::End | Asked::Message(_) | Asked::Batch(_) => answer,
                    }));
                }
                Sent::Unsent => {}
                Sent::Lost(error) => {
                    tracing::warn!(%error, proxy_id = proxy.id, "lost a request to another proxy");
                    if !asked.is_repeatable() {
                        return Err(Failure::OwnerLost);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The answer of the proxy that a message has its place at: the one where its call waits, or
    /// one that runs the command it needs. `None`: it is to be answered here. Every door asks
    /// this before it serves a message.
    pub(super) async fn at_its_place(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        message: &Message,
        era: &InboundEra,
    ) -> Result<Option<Response<Body>>, Failure> {
        // Boxed, since nearly no request takes these ways.
        if let InboundEra::Modern { version, capabilities } = era
            && self.may_be_held_elsewhere(sender, message)
        {
            let client = route::Client { version: *version, capabilities: *capabilities };
            match Box::pin(self.at_holder(sender, parts, message, client)).await? {
                Holder::Other(answer) => return Ok(Some(answer)),
                Holder::This => return Ok(None),
                Holder::Nobody => (),
            }
        }
        self.at_command(sender, parts, message, era.era()).await
    }

    /// Whether another proxy may hold the call that a modern request goes on with, or its task.
    pub(super) fn may_be_held_elsewhere(&self, sender: &Sender<'_>, message: &Message) -> bool {
        sender.client.door != Door::Peer
            && sender.table.has_other_proxies(&self.proxy_id)
            && (message.params().is_some_and(|params| params.request_state.is_some())
                || matches!(
                    message.method(),
                    Some(McpMethod::TasksGet | McpMethod::TasksUpdate | McpMethod::TasksCancel)
                ))
    }

    /// Who holds the call that waits for this request.
    async fn at_holder(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        message: &Message,
        client: route::Client,
    ) -> Result<Holder, Failure> {
        let Some(holder) = modern::holder(sender, message, client) else {
            return Ok(Holder::Nobody);
        };
        if *holder == *self.proxy_id {
            return Ok(Holder::This);
        }
        let Some(proxy) = sender.table.proxy(&holder) else { return Ok(Holder::Nobody) };
        let request = self.passed_on(sender, parts, message.body().clone());
        match self.peers.send(proxy, request).await {
            Sent::Answered(answer) => {
                Ok(Holder::Other(peer::relayed(answer, Some(message.id_bytes()))))
            }
            Sent::Unsent => Ok(Holder::Nobody),
            Sent::Lost(error) => {
                tracing::warn!(%error, proxy_id = proxy.id, "lost a request to another proxy");
                Err(Failure::OwnerLost)
            }
        }
    }

    /// The client's request as the other proxy gets it, with all that proves who sends it.
    fn passed_on(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        let mut uri = parts.uri.clone();
        self.root_path.strip(&mut uri);
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // The name is a form of HTTP/2; who is meant was settled by the certificate.
        if let Ok(uri) = format!("https://proxy{path}").parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        headers.clone_from(&parts.headers);
        forward::strip_hop_by_hop(headers);
        for name in [header::HOST, header::CONTENT_LENGTH, header::ORIGIN, header::EXPECT] {
            headers.remove(name);
        }
        let address = self.trust.client(sender.client.peer, &parts.headers);
        if let Ok(address) = HeaderValue::from_str(&address.to_string()) {
            headers.insert(door::CLIENT, address);
        }
        request
    }
}
