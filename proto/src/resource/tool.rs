//! What proxies are told of a tool.

use super::present;
use crate::{
    RestBinding,
    catalog::json_object,
    invalid::{Invalid, Under as _},
    wire,
};

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

impl ToolResource {
    pub(super) fn owner(&self) -> &str {
        match &self.target {
            ToolTarget::Upstream { upstream_id, .. } => upstream_id,
            ToolTarget::Rest { .. } => "",
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
