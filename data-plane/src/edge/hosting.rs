//! Requests that need a command, on a proxy that runs none: one that does answers them.
//!
//! A session begins on a host where its endpoint has commands: then everything in it finds its
//! owner there. Requests of modern clients, and of sessions that are older than the first
//! command, go to a host one by one.

use http::{Response, request};
use proto::{Era, upstream::StdioMode};

use super::{Edge, elsewhere::Asked};
use crate::{
    config::Stdio,
    engine::{Sender, legacy},
    error::Failure,
    mcp::{Capabilities, Kind, Message, Method, Version},
    ownership,
    route::{self, Plan},
    session,
    transport::body::Body,
};

impl Edge {
    /// Whether some requests may need a proxy that runs commands, unlike this one.
    pub(super) fn lacks_commands(&self, sender: &Sender<'_>) -> bool {
        let table = &sender.table;
        self.stdio == Stdio::Refused
            && table.has_commands()
            && table.has_other_proxies(&self.proxy_id)
    }

    /// The answer of a host to a message that needs one; `None`: it is to be answered here. So
    /// it is too when no host can be reached: then that is told. Asked only where commands lack.
    pub(super) async fn at_host(
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
        let order = ownership::hosts(key, sender.table.proxies());
        self.first_of(&order, sender, parts, asked).await
    }
}

fn has_commands(sender: &Sender<'_>) -> bool {
    let table = &sender.table;
    route::view(table, &sender.endpoint)
        .is_ok_and(|view| view.has_upstream(|id| table.command(id).is_some()))
}

/// What decides on which host a request runs; `None` if it needs no command.
fn key_of(sender: &Sender<'_>, message: &Message, era: Era) -> Option<Vec<u8>> {
    // All that could be seen: what may not be is for the host to say.
    let version = match era {
        Era::Legacy => Version::NEWEST_HANDSHAKE,
        Era::Modern => Version::NEWEST,
    };
    let client = route::Client { version, capabilities: Capabilities::all() };
    let Sender { table, principal, endpoint, .. } = sender;
    let plan = route::plan(table, principal, endpoint, message, client).ok()?;
    let (Plan::Forward { target } | Plan::Subscribe { target, .. }) = plan else { return None };
    let upstream_id = target.upstream_id()?;
    let stdio = table.command(upstream_id)?;
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
