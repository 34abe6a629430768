//! One tool of the table: its target, and its definition ready to be shown.

use proto::resource::{ToolResource, ToolTarget, kind};
use serde::Deserialize;

use super::earlier::Key;
use crate::mcp::{
    Capabilities,
    list::{Definition, ListKind},
    mirror::{self, MirrorParam},
    object::{Span, member},
};

/// A tool as requests find it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolEntry {
    pub id: Box<str>,
    /// Exposed name; a virtual server may show it under another.
    pub name: Box<str>,
    pub target: ToolTarget,
    pub definition: Definition,
    /// The client capabilities without which it is not shown.
    pub needs: Capabilities,
    /// As configured, for messages.
    pub needs_names: Box<[String]>,
    /// Further names it may be called by.
    pub aliases: Box<[String]>,
    pub hints: Hints,
    pub task_support: TaskSupport,
    /// Parameters that travel as headers too.
    pub mirrored: Box<[MirrorParam]>,
}

/// Whether a call has to be a task (MCP 2025-11-25, ToolExecution).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskSupport {
    /// It may be something else.
    #[default]
    Free,
    Required,
}

impl TaskSupport {
    fn read(definition: &str) -> Self {
        let whole = Span { start: 0, end: definition.len() };
        let execution = member(definition, whole, "execution");
        let support = execution.and_then(|span| member(definition, span, "taskSupport"));
        match support.map(|span| span.of(definition)) {
            Some("\"required\"") => Self::Required,
            Some(_) | None => Self::Free,
        }
    }
}

/// What the tool says about repeating it (MCP, ToolAnnotations). Absent means no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    #[serde(rename = "readOnlyHint")]
    pub is_read_only: bool,
    #[serde(rename = "idempotentHint")]
    pub is_idempotent: bool,
}

/// What a tool is ordered by.
pub(super) fn key_of(tool: &ToolResource) -> Key<'_> {
    let owner = match &tool.target {
        ToolTarget::Upstream { upstream_id, .. } => upstream_id.as_str(),
        ToolTarget::Rest { .. } => "",
    };
    [kind::TOOL, owner, &tool.id]
}

impl ToolEntry {
    /// The error completes "its definition …".
    pub(super) fn read(tool: &ToolResource) -> Result<Self, String> {
        let ToolResource { id, name, target, definition, needs_client_capabilities, aliases } =
            tool;
        let definition =
            Definition::read(definition, ListKind::Tools).map_err(|error| error.to_string())?;
        let schema = definition.input_schema.map(|span| definition.of(span)).unwrap_or_default();
        let mirrored = mirror::mirror_params(schema)?;
        let annotations = definition.annotations.map(|span| definition.of(span));
        let hints = annotations.and_then(|text| serde_json::from_str(text).ok());
        Ok(Self {
            id: id.as_str().into(),
            name: name.as_str().into(),
            target: target.clone(),
            needs: Capabilities::needs(needs_client_capabilities),
            needs_names: needs_client_capabilities.as_slice().into(),
            aliases: aliases.as_slice().into(),
            hints: hints.unwrap_or_default(),
            task_support: TaskSupport::read(definition.text()),
            mirrored: mirrored.into(),
            definition,
        })
    }

    /// What its resource is ordered by.
    pub(super) fn key(&self) -> Key<'_> {
        [kind::TOOL, self.upstream_id().unwrap_or_default(), &self.id]
    }

    /// What tools of one upstream are listed by, and those that are authored here.
    pub(super) fn order(&self) -> impl Ord + '_ {
        (&*self.name, &*self.id)
    }

    /// Whether it was read of the same resource.
    pub(super) fn is_of(&self, tool: &ToolResource) -> bool {
        let ToolResource { id, name, target, definition, needs_client_capabilities, aliases } =
            tool;
        *self.id == **id
            && *self.name == **name
            && self.target == *target
            && self.definition.text() == definition
            && *self.needs_names == **needs_client_capabilities
            && *self.aliases == **aliases
    }

    /// Whether nothing but its description differs, so that it is found and shown where `old` is.
    pub(super) fn is_described_anew(&self, old: &Self) -> bool {
        self.id == old.id
            && self.name == old.name
            && self.target == old.target
            && self.needs == old.needs
            && self.aliases == old.aliases
    }

    /// The upstream it is forwarded to; `None` for tools authored here.
    pub fn upstream_id(&self) -> Option<&str> {
        match &self.target {
            ToolTarget::Upstream { upstream_id, .. } => Some(upstream_id),
            ToolTarget::Rest { .. } => None,
        }
    }

    /// The name its upstream knows it by.
    pub fn original_name(&self) -> &str {
        match &self.target {
            ToolTarget::Upstream { original_name, .. } => original_name,
            ToolTarget::Rest { .. } => &self.name,
        }
    }

    /// JSON text of the schema of its arguments; empty if it has none.
    pub fn input_schema(&self) -> &str {
        self.definition.input_schema.map(|span| self.definition.of(span)).unwrap_or_default()
    }
}
