//! What proxies are told of each other: who is there, and which sessions have ended.

use crate::{
    invalid::{Invalid, Under as _},
    wire,
};

/// A proxy that others may trust and reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyResource {
    pub id: String,
    /// `HOST:PORT` of its listener for other proxies.
    pub peer_address: String,
    /// It runs the commands of stdio upstreams.
    pub stdio_host: bool,
}

/// Some of the sessions that their clients have deleted. Together, since each for itself would
/// take ten times the memory for as long as its id could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSessionsResource {
    /// Which of all batches.
    pub name: String,
    pub sessions: Vec<EndedSession>,
}

/// A session that its client has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedSession {
    pub id: [u8; 16],
    /// From then on its id is refused anyway.
    pub expire_time_ms: i64,
}

impl TryFrom<wire::ProxyResource> for ProxyResource {
    type Error = Invalid;

    fn try_from(proxy: wire::ProxyResource) -> Result<Self, Invalid> {
        let wire::ProxyResource { id, peer_address, stdio_host } = proxy;
        if id.is_empty() {
            return Err(Invalid::missing("id"));
        }
        if peer_address.is_empty() {
            return Err(Invalid::missing("peer_address"));
        }
        Ok(Self { id, peer_address, stdio_host })
    }
}

impl From<ProxyResource> for wire::ProxyResource {
    fn from(proxy: ProxyResource) -> Self {
        let ProxyResource { id, peer_address, stdio_host } = proxy;
        Self { id, peer_address, stdio_host }
    }
}

impl TryFrom<wire::EndedSessionsResource> for EndedSessionsResource {
    type Error = Invalid;

    fn try_from(ended: wire::EndedSessionsResource) -> Result<Self, Invalid> {
        let wire::EndedSessionsResource { name, sessions } = ended;
        if name.is_empty() {
            return Err(Invalid::missing("name"));
        }
        let sessions = sessions.into_iter().map(EndedSession::try_from).collect::<Result<_, _>>();
        Ok(Self { name, sessions: sessions.under("sessions")? })
    }
}

impl From<EndedSessionsResource> for wire::EndedSessionsResource {
    fn from(ended: EndedSessionsResource) -> Self {
        let EndedSessionsResource { name, sessions } = ended;
        Self { name, sessions: sessions.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::EndedSession> for EndedSession {
    type Error = Invalid;

    fn try_from(session: wire::EndedSession) -> Result<Self, Invalid> {
        let wire::EndedSession { id, expire_time_ms } = session;
        let id = id.try_into().map_err(|_| Invalid::new("id", "must have 16 bytes"))?;
        Ok(Self { id, expire_time_ms })
    }
}

impl From<EndedSession> for wire::EndedSession {
    fn from(session: EndedSession) -> Self {
        let EndedSession { id, expire_time_ms } = session;
        Self { id: id.to_vec(), expire_time_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proxy::peer_name, resource::Resource};

    #[test]
    fn proxies_and_ended_sessions_survive_the_wire() {
        let proxy = ProxyResource {
            id: "p_1".to_owned(),
            peer_address: "10.0.0.1:4448".to_owned(),
            stdio_host: true,
        };
        let sessions = vec![EndedSession { id: [0xab; 16], expire_time_ms: 7 }];
        let ended = EndedSessionsResource { name: "3".to_owned(), sessions };
        for resource in [Resource::Proxy(proxy), Resource::EndedSessions(ended)] {
            assert_eq!(Resource::decode(&resource.clone().encode()).unwrap(), resource);
        }
        let short = wire::EndedSession { id: vec![1; 15], expire_time_ms: 7 };
        let ended = wire::EndedSessionsResource { name: "3".to_owned(), sessions: vec![short] };
        let refused = EndedSessionsResource::try_from(ended).unwrap_err();
        assert_eq!(refused.field, "sessions.id");
    }

    #[test]
    fn every_id_has_a_host_name_of_its_own() {
        let name = peer_name("A_strange.id");
        assert_eq!(name.split('.').next().unwrap().len(), 33);
        assert_ne!(name, peer_name("a_strange.id"));
    }
}
