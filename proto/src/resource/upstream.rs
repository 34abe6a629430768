//! What proxies are told of an upstream.

use super::present;
use crate::{
    Era, UpstreamName,
    invalid::{Invalid, Under as _},
    upstream::{CatalogScope, Transport},
    wire,
};

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamResource {
    pub id: String,
    pub name: UpstreamName,
    pub transport: Transport,
    pub credential_id: Option<String>,
    pub catalog_scope: CatalogScope,
    /// Not known before the first discovery, and after one that found no version of ours: then
    /// nothing that it offers is listed.
    pub era: Option<Era>,
    pub protocol_version: String,
    pub instructions: String,
    pub disabled: bool,
    /// What it offers, JSON text; empty: not yet known.
    pub capabilities: String,
}

impl TryFrom<wire::UpstreamResource> for UpstreamResource {
    type Error = Invalid;

    fn try_from(upstream: wire::UpstreamResource) -> Result<Self, Invalid> {
        use wire::upstream_resource::Transport as Wire;
        let wire::UpstreamResource {
            id,
            name,
            transport,
            credential_id,
            catalog_scope,
            era,
            protocol_version,
            instructions,
            disabled,
            capabilities,
        } = upstream;
        let transport = match transport.ok_or_else(|| Invalid::missing("transport"))? {
            Wire::Http(http) => Transport::try_from(http).under("http")?,
            Wire::Sse(sse) => Transport::try_from(sse).under("sse")?,
            Wire::Websocket(websocket) => Transport::try_from(websocket).under("websocket")?,
            Wire::Stdio(stdio) => Transport::try_from(stdio).under("stdio")?,
        };
        Ok(Self {
            id,
            name: name.parse()?,
            transport,
            credential_id: present(credential_id),
            catalog_scope: CatalogScope::from_wire(catalog_scope),
            era: Era::from_wire(era),
            protocol_version,
            instructions,
            disabled,
            capabilities,
        })
    }
}

impl From<UpstreamResource> for wire::UpstreamResource {
    fn from(upstream: UpstreamResource) -> Self {
        use wire::upstream_resource::Transport as Wire;
        let UpstreamResource {
            id,
            name,
            transport,
            credential_id,
            catalog_scope,
            era,
            protocol_version,
            instructions,
            disabled,
            capabilities,
        } = upstream;
        let transport = match transport {
            Transport::Http { url } => Wire::Http(wire::HttpTransport { url: url.into() }),
            Transport::Sse { url } => Wire::Sse(wire::SseTransport { url: url.into() }),
            Transport::WebSocket { url } => {
                Wire::Websocket(wire::WebSocketTransport { url: url.into() })
            }
            Transport::Stdio(stdio) => Wire::Stdio(stdio.into()),
        };
        Self {
            id,
            name: name.to_string(),
            transport: Some(transport),
            credential_id: credential_id.unwrap_or_default(),
            catalog_scope: wire::CatalogScope::from(catalog_scope).into(),
            era: Era::into_wire(era).into(),
            protocol_version,
            instructions,
            disabled,
            capabilities,
        }
    }
}
