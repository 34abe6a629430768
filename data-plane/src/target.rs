//! What a request is forwarded to: whose it is, and what its subject is called there.

use std::sync::Arc;

use proto::resource::ToolTarget;

use crate::{
    mcp::{mirror::MirrorParam, translate::Subject, uri::Uris},
    snapshot::table::ToolEntry,
};

/// Where a request goes, decided by the router.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub asked: Asked,
    /// How the view shows URIs of the upstream; `None`: as they are.
    pub uris: Option<Arc<Uris>>,
}

/// What is asked for, under its upstream's own names.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Tool(Arc<ToolEntry>),
    Prompt {
        upstream_id: Arc<str>,
        name: Box<str>,
    },
    Resource {
        upstream_id: Arc<str>,
        uri: Box<str>,
    },
    /// Suggestions for an argument of a prompt or of a resource template.
    Completion {
        upstream_id: Arc<str>,
        reference: Reference,
    },
    /// A task, or what came of it.
    Task {
        upstream_id: Arc<str>,
        id: Box<str>,
        /// As the client knows it.
        sealed: Box<str>,
        wish: Wish,
    },
    /// What an extension is for. Its parameters name nothing that we know.
    Extension {
        upstream_id: Arc<str>,
        method: Box<str>,
        /// What a modern client says in `Mcp-Name`, if its parameters say the same.
        mirrored: Option<Box<str>>,
    },
    /// A page of tasks.
    Tasks {
        upstream_id: Arc<str>,
        cursor: Option<Box<str>>,
        /// Whose tasks come after those of this upstream.
        next: Option<Arc<str>>,
    },
}

/// What is wanted of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To know its state.
    Get,
    /// To wait for its result.
    Result,
    /// That it is different afterwards.
    Change,
}

/// What a completion is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A prompt's name.
    Prompt(Box<str>),
    /// A resource template, or a resource's URI.
    Resource(Box<str>),
}

impl Target {
    /// A call of a tool whose upstream's URIs are shown as they are.
    pub fn tool(entry: Arc<ToolEntry>) -> Self {
        Self { asked: Asked::Tool(entry), uris: None }
    }

    /// The tool, if it is one.
    pub fn as_tool(&self) -> Option<&Arc<ToolEntry>> {
        match &self.asked {
            Asked::Tool(tool) => Some(tool),
            Asked::Prompt { .. }
            | Asked::Resource { .. }
            | Asked::Completion { .. }
            | Asked::Task { .. }
            | Asked::Extension { .. }
            | Asked::Tasks { .. } => None,
        }
    }

    /// The upstream it is forwarded to; `None` for tools authored here.
    pub fn upstream_id(&self) -> Option<&str> {
        match &self.asked {
            Asked::Tool(tool) => tool.upstream_id(),
            Asked::Prompt { upstream_id, .. }
            | Asked::Resource { upstream_id, .. }
            | Asked::Completion { upstream_id, .. }
            | Asked::Task { upstream_id, .. }
            | Asked::Extension { upstream_id, .. }
            | Asked::Tasks { upstream_id, .. } => Some(upstream_id),
        }
    }

    /// The parameter that names what is asked for, with its value at the upstream.
    pub fn subject(&self) -> Subject<'_> {
        match &self.asked {
            Asked::Tool(tool) => Subject::Name(tool.original_name()),
            Asked::Prompt { name, .. } => Subject::Name(name),
            Asked::Resource { uri, .. } => Subject::Uri(uri),
            Asked::Completion { reference, .. } => match reference {
                Reference::Prompt(name) => Subject::RefName(name),
                Reference::Resource(uri) => Subject::RefUri(uri),
            },
            Asked::Task { id, .. } => Subject::Task(id),
            Asked::Extension { .. } => Subject::Nothing,
            Asked::Tasks { cursor, .. } => Subject::Page(cursor.as_deref()),
        }
    }

    /// What `Mcp-Name` says towards a modern upstream (MCP 2026-07-28, transports).
    pub fn mirror_name(&self) -> Option<&str> {
        if let Asked::Extension { mirrored, .. } = &self.asked {
            return mirrored.as_deref();
        }
        match self.subject() {
            Subject::Name(name) | Subject::Uri(name) | Subject::Task(name) => Some(name),
            Subject::RefName(_) | Subject::RefUri(_) | Subject::Page(_) | Subject::Nothing => None,
        }
    }

    /// Parameters that travel as headers too.
    pub fn mirrored(&self) -> &[MirrorParam] {
        self.as_tool().map_or(&[], |tool| &tool.mirrored)
    }

    /// Whether its upstream may want input first (MCP 2026-07-28, MRTR).
    pub fn may_want_input(&self) -> bool {
        match &self.asked {
            Asked::Tool(_) | Asked::Prompt { .. } | Asked::Resource { .. } => true,
            Asked::Completion { .. }
            | Asked::Task { .. }
            | Asked::Extension { .. }
            | Asked::Tasks { .. } => false,
        }
    }

    /// Whether it may be sent again after the connection broke. Tools say so themselves,
    /// nearly all else only reads.
    pub fn is_repeatable(&self) -> bool {
        match &self.asked {
            Asked::Tool(tool) => tool.hints.is_read_only || tool.hints.is_idempotent,
            Asked::Task { wish, .. } => *wish != Wish::Change,
            Asked::Extension { .. } => false,
            Asked::Prompt { .. }
            | Asked::Resource { .. }
            | Asked::Completion { .. }
            | Asked::Tasks { .. } => true,
        }
    }

    /// Whether the upstream may well not have the method.
    pub fn is_extension(&self) -> bool {
        matches!(&self.asked, Asked::Extension { .. })
    }

    /// Whether its answer may come as late as it likes.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.asked, Asked::Task { wish: Wish::Result, .. })
    }

    /// What people know it by.
    pub fn label(&self) -> &str {
        match &self.asked {
            Asked::Tool(tool) => &tool.name,
            Asked::Resource { uri, .. } => uri,
            Asked::Task { id, .. } => id,
            Asked::Tasks { .. } => "tasks",
            Asked::Extension { method, .. } => method,
            Asked::Prompt { name, .. }
            | Asked::Completion {
                reference: Reference::Prompt(name) | Reference::Resource(name),
                ..
            } => name,
        }
    }

    /// The REST request that stands for it, if its tool is authored here.
    pub fn authored(&self) -> Option<(&Arc<ToolEntry>, &proto::RestBinding, Option<&str>)> {
        let tool = self.as_tool()?;
        match &tool.target {
            ToolTarget::Rest { binding, credential_id } => {
                Some((tool, binding, credential_id.as_deref()))
            }
            ToolTarget::Upstream { .. } => None,
        }
    }
}
