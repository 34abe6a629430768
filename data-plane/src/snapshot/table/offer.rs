//! One prompt, resource or resource template of the table, ready to be shown.

use std::sync::Arc;

use proto::{EntryKind, entry::EntryResource};

use super::earlier::Key;
use crate::mcp::{
    Capabilities,
    list::{Definition, ListKind},
};

/// What an upstream offers besides tools, as requests find it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub id: Box<str>,
    pub kind: EntryKind,
    pub upstream_id: Arc<str>,
    /// Exposed name of a prompt; of the others what they are called at their upstream.
    pub name: Box<str>,
    /// A prompt's name, a URI or a URI template, as its upstream knows it.
    pub original: Box<str>,
    pub definition: Definition,
    /// The client capabilities without which it is not shown.
    pub needs: Capabilities,
}

/// What an entry is ordered by.
pub(super) fn key_of(entry: &EntryResource) -> Key<'_> {
    [entry.kind.as_str(), &entry.upstream_id, &entry.id]
}

impl Offer {
    /// The error completes "its definition …".
    pub(super) fn read(entry: &EntryResource) -> Result<Self, String> {
        let EntryResource {
            id,
            kind,
            upstream_id,
            name,
            original,
            definition,
            needs_client_capabilities,
        } = entry;
        let name = name_of(*kind, name, original);
        let definition = Definition::read(definition, list_kind(*kind));
        Ok(Self {
            id: id.as_str().into(),
            kind: *kind,
            upstream_id: upstream_id.as_str().into(),
            name: name.into(),
            original: original.as_str().into(),
            definition: definition.map_err(|error| error.to_string())?,
            needs: Capabilities::needs(needs_client_capabilities),
        })
    }

    /// What its resource is ordered by.
    pub(super) fn key(&self) -> Key<'_> {
        [self.kind.as_str(), &self.upstream_id, &self.id]
    }

    /// Whether it was read of the same resource.
    pub(super) fn is_of(&self, entry: &EntryResource) -> bool {
        let EntryResource {
            id,
            kind,
            upstream_id,
            name,
            original,
            definition,
            needs_client_capabilities,
        } = entry;
        *self.id == **id
            && self.kind == *kind
            && *self.upstream_id == **upstream_id
            && *self.name == *name_of(*kind, name, original)
            && *self.original == **original
            && self.definition.text() == definition
            && self.needs == Capabilities::needs(needs_client_capabilities)
    }
}

fn name_of<'n>(kind: EntryKind, name: &'n str, original: &'n str) -> &'n str {
    match kind {
        EntryKind::Prompt => name,
        EntryKind::Resource | EntryKind::ResourceTemplate => original,
    }
}

fn list_kind(kind: EntryKind) -> ListKind {
    match kind {
        EntryKind::Prompt => ListKind::Prompts,
        EntryKind::Resource => ListKind::Resources,
        EntryKind::ResourceTemplate => ListKind::ResourceTemplates,
    }
}
