//! Requests that need a command: a proxy that runs commands answers them, and for what belongs to
//! no session all proxies agree on which.
//!
//! A session begins on a host where its endpoint has commands: then everything in it finds its
//! owner there. Requests of modern clients, of pipes, and of sessions that are older than the
//! first command, go to a host one by one.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request};
use proto::{Era, upstream::StdioMode};

use super::{Edge, elsewhere::Asked, private};
use crate::{
    config::Stdio,
    connection::Door,
    engine::{Sender, legacy},
    error::Failure,
    mcp::{Capabilities, Kind, Message, Method, Version, version::InboundEra},
    ownership,
    route::{self, Endpoint, Plan},
    session,
    transport::body::{self, Body},
};

/// The longest answer of another proxy that is held in memory.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

impl Edge {
    /// Whether some requests may need a proxy that runs commands, unlike this one.
    pub(super) fn lacks_commands(&self, sender: &Sender<'_>) -> bool {
        let table = &sender.table;
        self.stdio == Stdio::Refused
            && table.has_commands()
            && table.has_other_proxies(&self.proxy_id)
    }

    /// Whether a request may have its place at another proxy that runs commands although this one
    /// does, too: what belongs to no session finds the same command from everywhere.
    fn shares_commands(&self, sender: &Sender<'_>, era: Era) -> bool {
        let table = &sender.table;
        let is_alone = match era {
            Era::Modern => true,
            Era::Legacy => sender.headers.is_none(),
        };
        // One hop: what comes from another proxy is answered here.
        self.stdio == Stdio::Allowed
            && is_alone
            && sender.client.door != Door::Peer
            && table.has_commands()
            && table.proxies().any(|proxy| proxy.stdio_host && proxy.id != *self.proxy_id)
    }

    /// The answer of the proxy that runs the command which a message needs; `None`: it is to be
    /// answered here.
    pub(super) async fn at_command(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        message: &Message,
        era: Era,
    ) -> Result<Option<Response<Body>>, Failure> {
        // Boxed, since few requests take these ways.
        if self.lacks_commands(sender) {
            return Box::pin(self.at_host(sender, parts, message, era)).await;
        }
        if matches!(message.kind, Kind::Request(_))
            && self.shares_commands(sender, era)
            && let Some(key) = key_of(sender, message, era)
        {
            let asked = Asked::Message(message);
            return Box::pin(self.ask_hosts(&key, sender, parts, asked)).await;
        }
        Ok(None)
    }

    /// Whether a request that came over a pipe may have its place elsewhere.
    pub(crate) fn may_be_elsewhere(
        &self,
        sender: &Sender<'_>,
        message: &Message,
        era: &InboundEra,
    ) -> bool {
        let Kind::Request(request) = &message.kind else { return false };
        if request.method == Method::Initialize {
            return false;
        }
        // What a session on the pipe does stays in it, if that can be.
        let is_modern = era.era() == Era::Modern;
        (is_modern && self.may_be_held_elsewhere(sender, message))
            || (self.lacks_commands(sender)
                || is_modern && self.shares_commands(sender, Era::Modern))
                && key_of(sender, message, era.era()).is_some()
    }

    /// The answer of another proxy to a request that came over a pipe; `None`: it is to be
    /// answered here. There it stands alone: nothing but the answer comes back.
    pub(crate) async fn carried(
        &self,
        sender: &Sender<'_>,
        authorization: Option<&HeaderValue>,
        message: &Message,
        era: &InboundEra,
    ) -> Result<Option<Bytes>, Failure> {
        let path = match &sender.endpoint {
            Endpoint::Everything => "/rpc".to_owned(),
            Endpoint::Server(server) => format!("/servers/{server}/rpc"),
        };
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(())
            .map_err(|_| Failure::Internal("a request cannot be carried"))?;
        let mut parts = request.into_parts().0;
        parts.headers.extend(authorization.map(|it| (header::AUTHORIZATION, it.clone())));
        match self.at_its_place(sender, &parts, message, era).await? {
            Some(answer) => self.whole(answer).await.map(Some),
            None => Ok(None),
        }
    }

    /// The body of another proxy's answer.
    pub(super) async fn whole(&self, answer: Response<Body>) -> Result<Bytes, Failure> {
        let (head, body) = answer.into_parts();
        let body = match body {
            Body::Forwarded(body) => body,
            Body::Whole(body) => return Ok(body.into_bytes()),
            Body::Events(_) | Body::Open(_) => {
                return Err(Failure::Internal("another proxy's answer is none"));
            }
        };
        let timeout = self.timeouts.call_total;
        let whole = body::read(&head.headers, body, ANSWER_MAX, timeout).await;
        whole.map_err(|error| {
            tracing::warn!(%error, "lost the answer of another proxy");
            Failure::OwnerLost
        })
    }

    /// The answer of a host to a message that needs one; `None`: it is to be answered here. So
    /// it is too when no host can be reached: then that is told. Asked only where commands lack.
    async fn at_host(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
        message: &Message,
        era: Era,
    ) -> Result<Option<Response<Body>>, Failure> {
        match &message.kind {
            Kind::Request(request) if request.method == Method::Initialize => {
                if !has_commands(sender) {
                    return Ok(None);
                }
                let key = session::new_id();
                self.ask_hosts(&key, sender, parts, Asked::Message(message)).await
            }
            Kind::Request(_) => match key_of(sender, message, era) {
                Some(key) => self.ask_hosts(&key, sender, parts, Asked::Message(message)).await,
                None => Ok(None),
            },
            Kind::Notification(notification) if notification.method == Method::Cancelled => {
                if let Some(key) = key_of_session(sender) {
                    // Here it is taken as well: who runs the call is not known.
                    self.ask_hosts(&key, sender, parts, Asked::Message(message)).await.ok();
                }
                Ok(None)
            }
            // What nobody here has asked, a host has.
            Kind::Response(_) if era == Era::Legacy && !legacy::has_asked(sender, message) => {
                match key_of_session(sender) {
                    Some(key) => self.ask_hosts(&key, sender, parts, Asked::Message(message)).await,
                    None => Ok(None),
                }
            }
            Kind::Notification(_) | Kind::Response(_) => Ok(None),
        }
    }

    /// The event stream of a host, where a session over HTTP+SSE will need it.
    pub(super) async fn stream_at_host(
        &self,
        sender: &Sender<'_>,
        parts: &request::Parts,
    ) -> Result<Option<Response<Body>>, Failure> {
        if !self.lacks_commands(sender) || !has_commands(sender) {
            return Ok(None);
        }
        self.ask_hosts(&session::new_id(), sender, parts, Asked::Stream).await
    }

    async fn ask_hosts(
        &self,
        key: &[u8],
        sender: &Sender<'_>,
        parts: &request::Parts,
        asked: Asked<'_>,
    ) -> Result<Option<Response<Body>>, Failure> {
        let mut order = ownership::hosts(key, sender.table.proxies());
        // Who comes after this proxy is not asked before it.
        let own = order.iter().position(|proxy| proxy.id == *self.proxy_id);
        order.truncate(own.unwrap_or(order.len()));
        self.first_of(&order, sender, parts, asked).await
    }
}

fn has_commands(sender: &Sender<'_>) -> bool {
    let table = &sender.table;
    sender.view().is_ok_and(|view| view.has_upstream(|id| table.command(id).is_some()))
}

/// What decides on which host a request runs; `None` if it needs no command.
fn key_of(sender: &Sender<'_>, message: &Message, era: Era) -> Option<Vec<u8>> {
    // All that could be seen: what may not be is for the host to say.
    let version = match era {
        Era::Legacy => Version::NEWEST_HANDSHAKE,
        Era::Modern => Version::NEWEST,
    };
    let client = route::Client { version, capabilities: Capabilities::all() };
    let Sender { table, principal, .. } = sender;
    let view = sender.view().ok()?;
    let plan = route::plan((table, view), principal, message, client);
    let upstream_id = match &plan {
        Ok(Plan::Forward { target } | Plan::Subscribe { target, .. }) => target.upstream_id(),
        Ok(_) | Err(_) => None,
    };
    let (upstream_id, stdio) = match upstream_id {
        Some(id) => (id, table.command(id)?),
        // Who lists, or means what is not shown to all, is shown it by a command.
        None if private::is_private(sender, message) => {
            let mut private = view.private_upstreams().iter();
            private.find_map(|it| Some((it.id.as_str(), table.command(&it.id)?)))?
        }
        None => return None,
    };
    if let Some(key) = key_of_session(sender) {
        return Some(key);
    }
    let mut key = upstream_id.as_bytes().to_vec();
    if stdio.mode == StdioMode::PerSession {
        key.push(0);
        key.extend_from_slice(principal.subject.as_bytes());
    }
    Some(key)
}

fn key_of_session(sender: &Sender<'_>) -> Option<Vec<u8>> {
    legacy::claims_of(sender).map(|claims| claims.id.to_vec())
}
