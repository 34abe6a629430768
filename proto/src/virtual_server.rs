//! A named selection of tools, prompts and resources with an endpoint of its own.

use crate::{
    VirtualServerName,
    invalid::Invalid,
    upstream::{check_text, tags_of},
    wire,
};

/// Under which names the tools of a virtual server are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Naming {
    /// `{upstream}-{tool}`.
    #[default]
    Prefix,
    /// The upstream's own names.
    Bare,
}

impl Naming {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Bare => "bare",
        }
    }

    pub fn from_wire(naming: i32) -> Self {
        match wire::Naming::try_from(naming).unwrap_or_default() {
            wire::Naming::Unspecified | wire::Naming::Prefix => Self::Prefix,
            wire::Naming::Bare => Self::Bare,
        }
    }
}

impl From<Naming> for wire::Naming {
    fn from(naming: Naming) -> Self {
        match naming {
            Naming::Prefix => Self::Prefix,
            Naming::Bare => Self::Bare,
        }
    }
}

/// What a writer may say about a virtual server. References are names or ids
/// on the way in and are resolved by the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServerDraft {
    pub name: VirtualServerName,
    pub title: String,
    pub description: String,
    pub upstreams: Vec<String>,
    pub tools: Vec<String>,
    pub prompts: Vec<String>,
    /// Resources and templates.
    pub resources: Vec<String>,
    pub naming: Naming,
    pub icon: String,
    pub disabled: bool,
    pub tags: Vec<String>,
}

/// A registered virtual server. `upstreams`, `tools` and `prompts` are names, `resources` are
/// `UPSTREAM/URI`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    pub id: String,
    pub name: VirtualServerName,
    pub title: String,
    pub description: String,
    pub upstreams: Vec<String>,
    pub tools: Vec<String>,
    /// The ids of `tools`, in the same order.
    pub tool_ids: Vec<String>,
    pub prompts: Vec<String>,
    pub resources: Vec<String>,
    pub naming: Naming,
    pub icon: String,
    pub disabled: bool,
    pub tags: Vec<String>,
    pub resource_version: u64,
    pub create_time_ms: i64,
    pub update_time_ms: i64,
}

impl TryFrom<wire::VirtualServer> for VirtualServerDraft {
    type Error = Invalid;

    fn try_from(server: wire::VirtualServer) -> Result<Self, Invalid> {
        let wire::VirtualServer {
            id: _,
            name,
            description,
            upstreams,
            tools,
            naming,
            icon,
            title,
            prompts,
            resources,
            disabled,
            tags,
            resource_version: _,
            create_time_ms: _,
            update_time_ms: _,
        } = server;
        check_text("title", &title)?;
        check_text("description", &description)?;
        check_text("icon", &icon)?;
        Ok(Self {
            name: name.parse()?,
            title,
            description,
            upstreams,
            tools,
            prompts,
            resources,
            naming: Naming::from_wire(naming),
            icon,
            disabled,
            tags: tags_of(tags)?,
        })
    }
}

impl From<VirtualServer> for wire::VirtualServer {
    fn from(server: VirtualServer) -> Self {
        let VirtualServer {
            id,
            name,
            title,
            description,
            upstreams,
            tools,
            tool_ids: _,
            prompts,
            resources,
            naming,
            icon,
            disabled,
            tags,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = server;
        Self {
            id,
            name: name.to_string(),
            title,
            description,
            upstreams,
            tools,
            prompts,
            resources,
            naming: wire::Naming::from(naming).into(),
            icon,
            disabled,
            tags,
            resource_version,
            create_time_ms,
            update_time_ms,
        }
    }
}
