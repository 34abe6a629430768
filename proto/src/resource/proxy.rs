//! What proxies are told of each other: who is there, and which sessions have ended.

use crate::{invalid::Invalid, wire};

/// A proxy that others may trust and reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyResource {
    pub id: String,
    /// `HOST:PORT` of its listener for other proxies.
    pub peer_address: String,
    /// It runs the commands of stdio upstreams.
    pub stdio_host: bool,
}

/// A session that its client has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedSessionResource {
    pub id: [u8; 16],
    /// From then on its id is refused anyway.
    pub expire_time_ms: i64,
}

impl EndedSessionResource {
    /// Its name among sync resources.
    pub fn name(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.id))
    }
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

impl TryFrom<wire::EndedSessionResource> for EndedSessionResource {
    type Error = Invalid;

    fn try_from(session: wire::EndedSessionResource) -> Result<Self, Invalid> {
        let wire::EndedSessionResource { id, expire_time_ms } = session;
        let id = id.try_into().map_err(|_| Invalid::new("id", "must have 16 bytes"))?;
        Ok(Self { id, expire_time_ms })
    }
}

impl From<EndedSessionResource> for wire::EndedSessionResource {
    fn from(session: EndedSessionResource) -> Self {
        let EndedSessionResource { id, expire_time_ms } = session;
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
        let session = EndedSessionResource { id: [0xab; 16], expire_time_ms: 7 };
        for resource in [Resource::Proxy(proxy), Resource::EndedSession(session)] {
            assert_eq!(Resource::decode(&resource.clone().encode()).unwrap(), resource);
        }
        let key = Resource::EndedSession(session).encode().key.unwrap();
        assert_eq!(key.name, "ab".repeat(16));
        let short = wire::EndedSessionResource { id: vec![1; 15], expire_time_ms: 7 };
        assert_eq!(EndedSessionResource::try_from(short).unwrap_err().field, "id");
    }

    #[test]
    fn every_id_has_a_host_name_of_its_own() {
        let name = peer_name("A_strange.id");
        assert_eq!(name.split('.').next().unwrap().len(), 33);
        assert_ne!(name, peer_name("a_strange.id"));
    }
}
