//! Sync resources: what a proxy is told, one piece of configuration each.
//!
//! Control plane and proxy read a resource with the same code, so a proxy
//! refuses only what a newer or broken control plane sends.

mod proxy;

use std::collections::BTreeMap;

use prost::Message as _;

use crate::{
    Era, RestBinding, Role, Secret, UpstreamName, VirtualServerName,
    catalog::json_object,
    entry::{EntryReference, EntryResource},
    invalid::{Invalid, Under as _},
    upstream::{CatalogScope, Transport},
    virtual_server::Naming,
    wire,
};

pub use self::proxy::{EndedSessionResource, ProxyResource};

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
    pub const ENDED_SESSION: &str = "ended_session";
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
    EndedSession(EndedSessionResource),
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamResource {
    pub id: String,
    pub name: UpstreamName,
    pub transport: Transport,
    pub credential_id: Option<String>,
    pub catalog_scope: CatalogScope,
    pub era: Option<Era>,
    pub protocol_version: String,
    pub instructions: String,
    pub disabled: bool,
    /// What it offers, JSON text; empty: not yet known.
    pub capabilities: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolResource {
    pub id: String,
    /// Exposed name, unique.
    pub name: String,
    pub target: ToolTarget,
    /// MCP tool object under its original name, JSON text.
    pub definition: String,
    pub needs_client_capabilities: Vec<String>,
    /// Further names it may be called by.
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolTarget {
    Upstream { upstream_id: String, original_name: String },
    Rest { binding: RestBinding, credential_id: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
pub struct VirtualServerResource {
    pub id: String,
    pub name: VirtualServerName,
    pub description: String,
    pub upstream_ids: Vec<String>,
    pub tool_ids: Vec<String>,
    /// Single prompts, resources and templates.
    pub entries: Vec<EntryReference>,
    pub naming: Naming,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TokenResource {
    pub id: String,
    pub digest: [u8; 32],
    pub subject: String,
    pub role: Role,
    pub expire_time_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyResource {
    pub id: String,
    pub key: Key,
    pub create_time_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// Seals session ids.
    Session(Secret<[u8; 32]>),
    /// The configured secret of ContextForge tokens.
    JwtHs256(Secret<Vec<u8>>),
    /// Public key of our own tokens.
    JwtEdDsa([u8; 32]),
    /// argon2id hash of the administrator's password, PHC text.
    Basic { user: String, hash: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CredentialResource {
    pub id: String,
    pub headers: BTreeMap<String, Secret<String>>,
}

impl Resource {
    /// Decodes a resource as sent; the error names the field inside it.
    pub fn decode(resource: &wire::Resource) -> Result<Self, Invalid> {
        use wire::resource_body::Body;
        let body = wire::ResourceBody::decode(resource.body.as_slice())
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
            Body::EndedSession(session) => session.try_into().map(Self::EndedSession),
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
            Self::EndedSession(it) => {
                (key(kind::ENDED_SESSION, "", &it.name()), Body::EndedSession(it.into()))
            }
        };
        wire::Resource {
            key: Some(key),
            body: wire::ResourceBody { body: Some(body) }.encode_to_vec(),
        }
    }
}

/// A key in the form that [`Resource::encode`] gives it.
pub fn key(kind: &str, owner: &str, name: &str) -> wire::ResourceKey {
    wire::ResourceKey { kind: kind.to_owned(), owner: owner.to_owned(), name: name.to_owned() }
}

impl ToolResource {
    fn owner(&self) -> &str {
        match &self.target {
            ToolTarget::Upstream { upstream_id, .. } => upstream_id,
            ToolTarget::Rest { .. } => "",
        }
    }
}

fn present(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
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

impl TryFrom<wire::ToolResource> for ToolResource {
    type Error = Invalid;

    fn try_from(tool: wire::ToolResource) -> Result<Self, Invalid> {
        let wire::ToolResource {
            id,
            name,
            upstream_id,
            original_name,
            definition,
            rest,
            credential_id,
            needs_client_capabilities,
            aliases,
        } = tool;
        json_object("definition", &definition)?;
        let target = match (rest, upstream_id.is_empty()) {
            (Some(rest), true) => ToolTarget::Rest {
                binding: RestBinding::try_from(rest).under("rest")?,
                credential_id: present(credential_id),
            },
            (None, false) => ToolTarget::Upstream { upstream_id, original_name },
            (Some(_), false) | (None, true) => {
                return Err(Invalid::new("upstream_id", "or `rest` must be given, not both"));
            }
        };
        if name.is_empty() {
            return Err(Invalid::missing("name"));
        }
        Ok(Self { id, name, target, definition, needs_client_capabilities, aliases })
    }
}

impl From<ToolResource> for wire::ToolResource {
    fn from(tool: ToolResource) -> Self {
        let ToolResource { id, name, target, definition, needs_client_capabilities, aliases } =
            tool;
        let (upstream_id, original_name, rest, credential_id) = match target {
            ToolTarget::Upstream { upstream_id, original_name } => {
                (upstream_id, original_name, None, None)
            }
            ToolTarget::Rest { binding, credential_id } => {
                (String::new(), String::new(), Some(binding.into()), credential_id)
            }
        };
        Self {
            id,
            name,
            upstream_id,
            original_name,
            definition,
            rest,
            credential_id: credential_id.unwrap_or_default(),
            needs_client_capabilities,
            aliases,
        }
    }
}

impl TryFrom<wire::VirtualServerResource> for VirtualServerResource {
    type Error = Invalid;

    fn try_from(server: wire::VirtualServerResource) -> Result<Self, Invalid> {
        let wire::VirtualServerResource {
            id,
            name,
            description,
            upstream_ids,
            tool_ids,
            naming,
            entries,
        } = server;
        let (name, naming) = (name.parse()?, Naming::from_wire(naming));
        let entries =
            entries.into_iter().map(EntryReference::try_from).collect::<Result<_, _>>()?;
        Ok(Self { id, name, description, upstream_ids, tool_ids, entries, naming })
    }
}

impl From<VirtualServerResource> for wire::VirtualServerResource {
    fn from(server: VirtualServerResource) -> Self {
        let VirtualServerResource {
            id,
            name,
            description,
            upstream_ids,
            tool_ids,
            entries,
            naming,
        } = server;
        let (name, naming) = (name.to_string(), wire::Naming::from(naming).into());
        let entries = entries.into_iter().map(wire::EntryReference::from).collect();
        Self { id, name, description, upstream_ids, tool_ids, naming, entries }
    }
}

impl TryFrom<wire::TokenResource> for TokenResource {
    type Error = Invalid;

    fn try_from(token: wire::TokenResource) -> Result<Self, Invalid> {
        let wire::TokenResource { id, digest, subject, admin, expire_time_ms } = token;
        let digest = digest.try_into().map_err(|_| Invalid::new("digest", "must have 32 bytes"))?;
        Ok(Self {
            id,
            digest,
            subject,
            role: if admin { Role::Admin } else { Role::Caller },
            expire_time_ms: Some(expire_time_ms).filter(|time| *time != 0),
        })
    }
}

impl From<TokenResource> for wire::TokenResource {
    fn from(token: TokenResource) -> Self {
        let TokenResource { id, digest, subject, role, expire_time_ms } = token;
        Self {
            id,
            digest: digest.to_vec(),
            subject,
            admin: role == Role::Admin,
            expire_time_ms: expire_time_ms.unwrap_or(0),
        }
    }
}

impl TryFrom<wire::KeyResource> for KeyResource {
    type Error = Invalid;

    fn try_from(key: wire::KeyResource) -> Result<Self, Invalid> {
        let wire::KeyResource { id, r#use, material, create_time_ms, subject } = key;
        let bytes = |material: Vec<u8>| -> Result<[u8; 32], Invalid> {
            material.try_into().map_err(|_| Invalid::new("material", "must have 32 bytes"))
        };
        let key = match wire::KeyUse::try_from(r#use).unwrap_or_default() {
            wire::KeyUse::Unspecified => return Err(Invalid::new("use", "is unknown")),
            wire::KeyUse::Session => Key::Session(Secret::new(bytes(material)?)),
            wire::KeyUse::JwtHs256 => Key::JwtHs256(Secret::new(material)),
            wire::KeyUse::JwtEddsa => Key::JwtEdDsa(bytes(material)?),
            wire::KeyUse::Basic => Key::Basic {
                user: subject,
                hash: String::from_utf8(material)
                    .map_err(|_| Invalid::new("material", "is no UTF-8 text"))?,
            },
        };
        Ok(Self { id, key, create_time_ms })
    }
}

impl From<KeyResource> for wire::KeyResource {
    fn from(key: KeyResource) -> Self {
        let KeyResource { id, key, create_time_ms } = key;
        let (r#use, material, subject) = match key {
            Key::Session(secret) => {
                (wire::KeyUse::Session, secret.expose().to_vec(), String::new())
            }
            Key::JwtHs256(secret) => {
                (wire::KeyUse::JwtHs256, secret.expose().clone(), String::new())
            }
            Key::JwtEdDsa(public) => (wire::KeyUse::JwtEddsa, public.to_vec(), String::new()),
            Key::Basic { user, hash } => (wire::KeyUse::Basic, hash.into_bytes(), user),
        };
        Self { id, r#use: r#use.into(), material, create_time_ms, subject }
    }
}

impl From<wire::CredentialResource> for CredentialResource {
    fn from(credential: wire::CredentialResource) -> Self {
        let wire::CredentialResource { id, headers } = credential;
        let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        Self { id, headers }
    }
}

impl From<CredentialResource> for wire::CredentialResource {
    fn from(credential: CredentialResource) -> Self {
        let CredentialResource { id, headers } = credential;
        let headers =
            headers.into_iter().map(|(name, value)| (name, value.expose().clone())).collect();
        Self { id, headers }
    }
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
            body: wire::ResourceBody { body: Some(body) }.encode_to_vec(),
        };
        assert_eq!(Resource::decode(&wire).unwrap_err().field, "upstream_id");
    }
}
