//! What discovery reads an upstream's catalog over, whatever its transport and era.

use std::sync::Arc;

use proto::Era;

use super::{
    era::{Handshake, Speech},
    failure::CallFailure,
    fetch::Bounds,
    http::{Endpoint, Session},
    pipe::Link,
};
use crate::mcp::{Capabilities, Message};

/// A connection of our own over which the catalog is read.
#[derive(Debug)]
pub(crate) enum Lister {
    Modern(Arc<Endpoint>, Handshake, Capabilities),
    Session(Arc<Endpoint>, Arc<Session>),
    /// The shared pipe, or one of its own.
    Pipe(Arc<Link>, Capabilities),
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
