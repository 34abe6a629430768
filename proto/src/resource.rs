//! Sync resources: what a proxy is told, one piece of configuration each.
//!
//! Control plane and proxy read a resource with the same code, so a proxy
//! refuses only what a newer or broken control plane sends.

mod access;
mod proxy;
mod tool;
mod upstream;
mod virtual_server;

use prost::Message as _;

use crate::{entry::EntryResource, invalid::Invalid, wire};

pub use self::{
    access::{CredentialResource, Key, KeyResource, TokenResource},
    proxy::{EndedSession, EndedSessionsResource, ProxyResource},
    tool::{ToolResource, ToolTarget},
    upstream::UpstreamResource,
    virtual_server::VirtualServerResource,
};

/// Kinds of resources, as they stand in keys.
pub mod kind {
    pub const UPSTREAM: &str = "upstream";
    pub const TOOL: &str = "tool";
    pub const PROMPT: &str = "prompt";
    pub const RESOURCE: &str = "resource";
    pub const RESOURCE_TEMPLATE: &str = "resource-template";
    pub const SERVER: &str = "server";
    pub const TOKEN: &str = "token";
    pub const KEY: &str = "key";
    pub const CREDENTIAL: &str = "credential";
    pub const PROXY: &str = "proxy";
    pub const ENDED_SESSIONS: &str = "ended_sessions";
}

/// A resource after its one conversion.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    Upstream(UpstreamResource),
    Tool(ToolResource),
    Entry(EntryResource),
    VirtualServer(VirtualServerResource),
    Token(TokenResource),
    Key(KeyResource),
    Credential(CredentialResource),
    Proxy(ProxyResource),
    EndedSessions(EndedSessionsResource),
}

impl Resource {
    /// Decodes a resource as sent; the error names the field inside it.
    pub fn decode(resource: &wire::Resource) -> Result<Self, Invalid> {
        use wire::resource_body::Body;
        let body = wire::ResourceBody::decode(resource.body.as_ref())
            .map_err(|error| Invalid::new("body", format!("is no ResourceBody: {error}")))?;
        match body.body.ok_or_else(|| Invalid::missing("body"))? {
            Body::Upstream(upstream) => upstream.try_into().map(Self::Upstream),
            Body::Tool(tool) => tool.try_into().map(Self::Tool),
            Body::Entry(entry) => entry.try_into().map(Self::Entry),
            Body::VirtualServer(server) => server.try_into().map(Self::VirtualServer),
            Body::Token(token) => token.try_into().map(Self::Token),
            Body::Key(key) => key.try_into().map(Self::Key),
            Body::Credential(credential) => Ok(Self::Credential(credential.into())),
            Body::Proxy(proxy) => proxy.try_into().map(Self::Proxy),
            Body::EndedSessions(ended) => ended.try_into().map(Self::EndedSessions),
        }
    }

    /// Encodes a resource under the key that belongs to it.
    pub fn encode(self) -> wire::Resource {
        use wire::resource_body::Body;
        let (key, body) = match self {
            Self::Upstream(it) => (key(kind::UPSTREAM, "", &it.id), Body::Upstream(it.into())),
            Self::Tool(it) => (key(kind::TOOL, it.owner(), &it.id), Body::Tool(it.into())),
            Self::Entry(it) => (it.key(), Body::Entry(it.into())),
            Self::VirtualServer(it) => {
                (key(kind::SERVER, "", &it.id), Body::VirtualServer(it.into()))
            }
            Self::Token(it) => (key(kind::TOKEN, "", &it.id), Body::Token(it.into())),
            Self::Key(it) => (key(kind::KEY, "", &it.id), Body::Key(it.into())),
            Self::Credential(it) => {
                (key(kind::CREDENTIAL, "", &it.id), Body::Credential(it.into()))
            }
            Self::Proxy(it) => (key(kind::PROXY, "", &it.id), Body::Proxy(it.into())),
            Self::EndedSessions(it) => {
                (key(kind::ENDED_SESSIONS, "", &it.name), Body::EndedSessions(it.into()))
            }
        };
        wire::Resource {
            key: Some(key),
            body: wire::ResourceBody { body: Some(body) }.encode_to_vec().into(),
        }
    }
}

/// A key in the form that [`Resource::encode`] gives it.
pub fn key(kind: &str, owner: &str, name: &str) -> wire::ResourceKey {
    wire::ResourceKey { kind: kind.to_owned(), owner: owner.to_owned(), name: name.to_owned() }
}

fn present(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_survive_the_wire() {
        let tool = Resource::Tool(ToolResource {
            id: "t1".to_owned(),
            name: "time-now".to_owned(),
            target: ToolTarget::Upstream {
                upstream_id: "u1".to_owned(),
                original_name: "now".to_owned(),
            },
            definition: r#"{"name":"now","inputSchema":{"type":"object"}}"#.to_owned(),
            needs_client_capabilities: vec!["sampling".to_owned()],
            aliases: vec![],
        });
        let wire = tool.clone().encode();
        assert_eq!(wire.key, Some(key(kind::TOOL, "u1", "t1")));
        assert_eq!(Resource::decode(&wire).unwrap(), tool);
    }

    #[test]
    fn a_tool_without_a_target_is_refused_by_field() {
        let body = wire::resource_body::Body::Tool(wire::ToolResource {
            name: "x".to_owned(),
            definition: "{}".to_owned(),
            ..Default::default()
        });
        let wire = wire::Resource {
            key: None,
            body: wire::ResourceBody { body: Some(body) }.encode_to_vec().into(),
        };
        assert_eq!(Resource::decode(&wire).unwrap_err().field, "upstream_id");
    }
}
