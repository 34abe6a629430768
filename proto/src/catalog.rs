//! What an upstream offers, as discovered, and in which era it speaks.

use crate::{
    entry::CatalogEntry,
    invalid::{Invalid, Under},
    wire,
};

/// Which lifecycle a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25: `initialize` and sessions.
    Legacy,
    /// 2026-07-28: every request stands alone.
    Modern,
}

impl Era {
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Modern];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }

    /// The era on the wire; unspecified means not yet known.
    pub fn from_wire(era: i32) -> Option<Self> {
        match wire::Era::try_from(era).unwrap_or_default() {
            wire::Era::Unspecified => None,
            wire::Era::Legacy => Some(Self::Legacy),
            wire::Era::Modern => Some(Self::Modern),
        }
    }

    pub fn into_wire(era: Option<Self>) -> wire::Era {
        match era {
            None => wire::Era::Unspecified,
            Some(Self::Legacy) => wire::Era::Legacy,
            Some(Self::Modern) => wire::Era::Modern,
        }
    }
}

/// The result of one successful discovery. JSON stays text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    pub era: Era,
    pub protocol_version: String,
    pub server_info: String,
    pub capabilities: String,
    pub instructions: String,
    pub tools: Vec<CatalogTool>,
    /// Prompts, resources and templates.
    pub entries: Vec<CatalogEntry>,
}

/// A tool under its upstream's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTool {
    pub name: String,
    /// The MCP tool object, byte for byte.
    pub definition: String,
    /// Shown only to clients that have all of these.
    pub needs_client_capabilities: Vec<String>,
}

impl TryFrom<wire::Catalog> for Catalog {
    type Error = Invalid;

    fn try_from(catalog: wire::Catalog) -> Result<Self, Invalid> {
        let wire::Catalog {
            era,
            protocol_version,
            server_info,
            capabilities,
            instructions,
            tools,
            entries,
        } = catalog;
        let era = Era::from_wire(era).ok_or_else(|| Invalid::missing("era"))?;
        let tools = tools
            .into_iter()
            .enumerate()
            .map(|(index, tool)| CatalogTool::try_from(tool).under(&format!("tools[{index}]")))
            .collect::<Result<_, _>>()?;
        let entries = entries.into_iter().enumerate();
        let entries = entries
            .map(|(index, entry)| CatalogEntry::try_from(entry).under(&format!("entries[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { era, protocol_version, server_info, capabilities, instructions, tools, entries })
    }
}

impl TryFrom<wire::CatalogTool> for CatalogTool {
    type Error = Invalid;

    fn try_from(tool: wire::CatalogTool) -> Result<Self, Invalid> {
        let wire::CatalogTool { name, definition, needs_client_capabilities } = tool;
        if name.is_empty() {
            return Err(Invalid::missing("name"));
        }
        json_object("definition", &definition)?;
        Ok(Self { name, definition, needs_client_capabilities })
    }
}

impl From<Catalog> for wire::Catalog {
    fn from(catalog: Catalog) -> Self {
        let Catalog {
            era,
            protocol_version,
            server_info,
            capabilities,
            instructions,
            tools,
            entries,
        } = catalog;
        Self {
            era: Era::into_wire(Some(era)).into(),
            protocol_version,
            server_info,
            capabilities,
            instructions,
            tools: tools.into_iter().map(Into::into).collect(),
            entries: entries.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<CatalogTool> for wire::CatalogTool {
    fn from(tool: CatalogTool) -> Self {
        let CatalogTool { name, definition, needs_client_capabilities } = tool;
        Self { name, definition, needs_client_capabilities }
    }
}

/// Checks that `text` is one JSON object; it is kept as it is.
pub fn json_object(field: &str, text: &str) -> Result<(), Invalid> {
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => Ok(()),
        Ok(_) => Err(Invalid::new(field, "must be a JSON object")),
        Err(error) => Err(Invalid::new(field, format!("is not JSON: {error}"))),
    }
}
