//! What an upstream offers besides tools: prompts, resources and resource templates.

use crate::{
    PromptName, UpstreamName,
    catalog::json_object,
    invalid::Invalid,
    resource::{self, kind},
    wire,
};

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    Prompt,
    Resource,
    ResourceTemplate,
}

impl EntryKind {
    pub const ALL: [Self; 3] = [Self::Prompt, Self::Resource, Self::ResourceTemplate];

    /// The word for it, in keys of sync resources and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => kind::PROMPT,
            Self::Resource => kind::RESOURCE,
            Self::ResourceTemplate => kind::RESOURCE_TEMPLATE,
        }
    }

    /// The member of a definition that tells one entry from another.
    pub fn key_member(self) -> &'static str {
        match self {
            Self::Prompt => "name",
            Self::Resource => "uri",
            Self::ResourceTemplate => "uriTemplate",
        }
    }

    fn from_wire(kind: i32) -> Result<Self, Invalid> {
        match wire::EntryKind::try_from(kind).unwrap_or_default() {
            wire::EntryKind::Unspecified => Err(Invalid::new("kind", "is unknown")),
            wire::EntryKind::Prompt => Ok(Self::Prompt),
            wire::EntryKind::Resource => Ok(Self::Resource),
            wire::EntryKind::ResourceTemplate => Ok(Self::ResourceTemplate),
        }
    }
}

impl From<EntryKind> for wire::EntryKind {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Prompt => Self::Prompt,
            EntryKind::Resource => Self::Resource,
            EntryKind::ResourceTemplate => Self::ResourceTemplate,
        }
    }
}

/// An entry of a catalog, under its upstream's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    pub kind: EntryKind,
    /// A prompt's name, a resource's URI, a URI template.
    pub original: String,
    /// The MCP object, byte for byte.
    pub definition: String,
    /// Shown only to clients that have all of these.
    pub needs_client_capabilities: Vec<String>,
}

/// An entry of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub upstream_id: String,
    pub upstream: UpstreamName,
    /// Under which a prompt is exposed; resources keep their URIs.
    pub name: Option<PromptName>,
    pub offered: CatalogEntry,
    pub resource_version: u64,
    pub create_time_ms: i64,
    pub update_time_ms: i64,
}

/// Which entry is meant, whether its upstream offers it now or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryReference {
    pub upstream_id: String,
    pub kind: EntryKind,
    /// A prompt's name, a resource's URI, a URI template, as its upstream knows it.
    pub original: String,
}

impl TryFrom<wire::EntryReference> for EntryReference {
    type Error = Invalid;

    fn try_from(reference: wire::EntryReference) -> Result<Self, Invalid> {
        let wire::EntryReference { upstream_id, kind, original } = reference;
        Ok(Self { upstream_id, kind: EntryKind::from_wire(kind)?, original })
    }
}

impl From<EntryReference> for wire::EntryReference {
    fn from(reference: EntryReference) -> Self {
        let EntryReference { upstream_id, kind, original } = reference;
        Self { upstream_id, kind: wire::EntryKind::from(kind).into(), original }
    }
}

/// An entry as proxies are told it.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryResource {
    pub id: String,
    pub kind: EntryKind,
    pub upstream_id: String,
    /// Exposed name of a prompt, unique; empty for the others.
    pub name: String,
    /// A prompt's name, a resource's URI, a URI template, as its upstream knows it.
    pub original: String,
    /// The MCP object under its original name, JSON text.
    pub definition: String,
    pub needs_client_capabilities: Vec<String>,
}

impl EntryResource {
    pub(crate) fn key(&self) -> wire::ResourceKey {
        resource::key(self.kind.as_str(), &self.upstream_id, &self.id)
    }
}

/// The parts of an MCP prompt, resource or template object that the API shows one by one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: Option<String>,
    title: Option<String>,
    description: Option<String>,
    mime_type: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a serde_json::value::RawValue>,
}

impl<'a> Shown<'a> {
    fn of(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl TryFrom<wire::CatalogEntry> for CatalogEntry {
    type Error = Invalid;

    fn try_from(entry: wire::CatalogEntry) -> Result<Self, Invalid> {
        let wire::CatalogEntry { kind, original, definition, needs_client_capabilities } = entry;
        if original.is_empty() {
            return Err(Invalid::missing("original"));
        }
        json_object("definition", &definition)?;
        let kind = EntryKind::from_wire(kind)?;
        Ok(Self { kind, original, definition, needs_client_capabilities })
    }
}

impl From<CatalogEntry> for wire::CatalogEntry {
    fn from(entry: CatalogEntry) -> Self {
        let CatalogEntry { kind, original, definition, needs_client_capabilities } = entry;
        let kind = wire::EntryKind::from(kind).into();
        Self { kind, original, definition, needs_client_capabilities }
    }
}

impl TryFrom<wire::EntryResource> for EntryResource {
    type Error = Invalid;

    fn try_from(entry: wire::EntryResource) -> Result<Self, Invalid> {
        let wire::EntryResource {
            id,
            kind,
            upstream_id,
            name,
            original,
            definition,
            needs_client_capabilities,
        } = entry;
        for (field, text) in [("upstream_id", &upstream_id), ("original", &original)] {
            if text.is_empty() {
                return Err(Invalid::missing(field));
            }
        }
        let kind = EntryKind::from_wire(kind)?;
        if kind == EntryKind::Prompt && name.is_empty() {
            return Err(Invalid::missing("name"));
        }
        json_object("definition", &definition)?;
        Ok(Self { id, kind, upstream_id, name, original, definition, needs_client_capabilities })
    }
}

impl From<EntryResource> for wire::EntryResource {
    fn from(entry: EntryResource) -> Self {
        let EntryResource {
            id,
            kind,
            upstream_id,
            name,
            original,
            definition,
            needs_client_capabilities,
        } = entry;
        let kind = wire::EntryKind::from(kind).into();
        Self { id, kind, upstream_id, name, original, definition, needs_client_capabilities }
    }
}

impl From<Entry> for wire::Prompt {
    fn from(entry: Entry) -> Self {
        let shown = Shown::of(&entry.offered.definition);
        Self {
            name: entry.name.map(|name| name.to_string()).unwrap_or_default(),
            title: shown.title.unwrap_or_default(),
            description: shown.description.unwrap_or_default(),
            arguments: shown.arguments.map(|raw| raw.get().to_owned()).unwrap_or_default(),
            id: entry.id,
            upstream: entry.upstream.to_string(),
            original_name: entry.offered.original,
            definition: entry.offered.definition.clone(),
            needs_client_capabilities: entry.offered.needs_client_capabilities,
            resource_version: entry.resource_version,
            create_time_ms: entry.create_time_ms,
            update_time_ms: entry.update_time_ms,
        }
    }
}

impl From<Entry> for wire::CatalogResource {
    fn from(entry: Entry) -> Self {
        let shown = Shown::of(&entry.offered.definition);
        let (uri, uri_template) = match entry.offered.kind {
            EntryKind::ResourceTemplate => (String::new(), entry.offered.original),
            EntryKind::Resource | EntryKind::Prompt => (entry.offered.original, String::new()),
        };
        Self {
            uri,
            uri_template,
            name: shown.name.unwrap_or_default(),
            title: shown.title.unwrap_or_default(),
            description: shown.description.unwrap_or_default(),
            mime_type: shown.mime_type.unwrap_or_default(),
            id: entry.id,
            upstream: entry.upstream.to_string(),
            definition: entry.offered.definition.clone(),
            needs_client_capabilities: entry.offered.needs_client_capabilities,
            resource_version: entry.resource_version,
            create_time_ms: entry.create_time_ms,
            update_time_ms: entry.update_time_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resource;

    #[test]
    fn entries_survive_the_wire_under_keys_of_their_kind() {
        for kind in EntryKind::ALL {
            let entry = Resource::Entry(EntryResource {
                id: "e1".to_owned(),
                kind,
                upstream_id: "u1".to_owned(),
                name: "u-x".to_owned(),
                original: "x".to_owned(),
                definition: r#"{"name":"x","n":1.0}"#.to_owned(),
                needs_client_capabilities: vec!["roots".to_owned()],
            });
            let wire = entry.clone().encode();
            assert_eq!(wire.key, Some(resource::key(kind.as_str(), "u1", "e1")));
            assert_eq!(Resource::decode(&wire).unwrap(), entry);
        }
    }

    #[test]
    fn the_api_shows_the_parts_of_a_definition() {
        let entry = |kind, definition: &str| Entry {
            id: "e1".to_owned(),
            upstream_id: "u1".to_owned(),
            upstream: "u".parse().unwrap(),
            name: "u-x".parse().ok(),
            offered: CatalogEntry {
                kind,
                original: "x".to_owned(),
                definition: definition.to_owned(),
                needs_client_capabilities: vec![],
            },
            resource_version: 1,
            create_time_ms: 1,
            update_time_ms: 1,
        };
        let text = r#"{"name":"x","title":"X","arguments":[{"name":"a"}]}"#;
        let prompt = wire::Prompt::from(entry(EntryKind::Prompt, text));
        assert_eq!((prompt.name.as_str(), prompt.arguments.as_str()), ("u-x", r#"[{"name":"a"}]"#));
        let template =
            entry(EntryKind::ResourceTemplate, r#"{"name":"n","mimeType":"text/plain"}"#);
        let template = wire::CatalogResource::from(template);
        assert_eq!((template.uri.as_str(), template.uri_template.as_str()), ("", "x"));
        assert_eq!(template.mime_type, "text/plain");
    }
}
