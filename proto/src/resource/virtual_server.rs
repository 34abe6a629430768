//! What proxies are told of a virtual server.

use crate::{
    VirtualServerName, entry::EntryReference, invalid::Invalid, virtual_server::Naming, wire,
};

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
