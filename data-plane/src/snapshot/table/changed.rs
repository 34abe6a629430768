//! A configuration in which some tools came, went or are others now: all else is shared with the one
//! before, so that it costs what the change is and hardly what the whole is.

use std::{collections::hash_map::Entry, sync::Arc};

use ahash::AHashMap;
use proto::{
    Position,
    resource::{Resource, ToolResource, ToolTarget},
};

use super::{Table, entry::ToolEntry, shelf, view::View};
use crate::{
    mcp::feature::{Feature, Features},
    snapshot::content::Difference,
};

/// One tool before a change and after it.
pub(super) enum ToolChange {
    /// It differs in what clients are shown of it alone.
    Described { old: Arc<ToolEntry>, new: Arc<ToolEntry> },
    /// It came, went, or is another now.
    Replaced { old: Option<Arc<ToolEntry>>, new: Option<Arc<ToolEntry>> },
}

impl ToolChange {
    fn of(old: Option<Arc<ToolEntry>>, new: Option<Arc<ToolEntry>>) -> Self {
        match (old, new) {
            (Some(old), Some(new)) if new.is_described_anew(&old) => Self::Described { old, new },
            (old, new) => Self::Replaced { old, new },
        }
    }

    pub(super) fn before(&self) -> Option<&Arc<ToolEntry>> {
        match self {
            Self::Described { old, new: _ } => Some(old),
            Self::Replaced { old, new: _ } => old.as_ref(),
        }
    }

    pub(super) fn now(&self) -> Option<&Arc<ToolEntry>> {
        match self {
            Self::Described { old: _, new } => Some(new),
            Self::Replaced { old: _, new } => new.as_ref(),
        }
    }
}

impl Table {
    /// The same configuration with these differences. `None` if they are more than tools on which
    /// nothing else depends, or what they lead to is wrong: then all is compiled anew.
    pub(super) fn with(&self, differences: &[Difference<'_>], position: &Position) -> Option<Self> {
        // Recipes of what each caller is shown have the tools too.
        if self.is_private {
            return None;
        }
        let mut table = Self { position: position.clone(), ..self.clone() };
        let mut changes = Vec::with_capacity(differences.len());
        for difference in differences {
            let change = self.tool_change(difference)?;
            table.read.take(&change)?;
            changes.push(change);
        }
        table.everything = self.everything.with_tools(&changes)?;
        // Each view is there by name and by id.
        let mut views: AHashMap<&str, Arc<View>> = AHashMap::new();
        let mut servers = AHashMap::with_capacity(self.servers.len());
        for (name, view) in &*self.servers {
            let new = match views.entry(&view.id) {
                Entry::Occupied(new) => Arc::clone(new.get()),
                Entry::Vacant(place) => Arc::clone(place.insert(view.with_tools(&changes)?)),
            };
            servers.insert(name.clone(), new);
        }
        table.servers = servers.into();
        Some(table)
    }

    /// `None` if more than tools depends on it.
    fn tool_change(&self, difference: &Difference<'_>) -> Option<ToolChange> {
        let Difference { before, now } = difference;
        let old = match before {
            Some(resource) => Some(self.read.tool(as_tool(resource)?)?),
            None => None,
        };
        let new = match now {
            Some(resource) => Some(Arc::new(ToolEntry::read(as_tool(resource)?).ok()?)),
            None => None,
        };
        let change = ToolChange::of(old, new);
        let is_alone = match &change {
            // Views show such a tool otherwise than it was read.
            ToolChange::Described { old: _, new } => {
                !self.upstream_has(new, Features::NONE.with(Feature::TasksExtension))
            }
            ToolChange::Replaced { old, new } => {
                let is_chosen = |it: &Arc<ToolEntry>| self.chosen.contains(&it.id);
                let tasks = Features::of_tasks();
                let depends = |it: &Arc<ToolEntry>| is_chosen(it) || self.upstream_has(it, tasks);
                new.as_ref().is_none_or(|new| self.has_target(new))
                    && !old.iter().chain(new).any(depends)
            }
        };
        is_alone.then_some(change)
    }

    /// Whether the tool's upstream has any of these.
    fn upstream_has(&self, tool: &ToolEntry, features: Features) -> bool {
        let upstream = tool.upstream_id().and_then(|id| self.upstreams.get(id));
        upstream.is_some_and(|it| shelf::features_of(it).and(features) != Features::NONE)
    }

    /// Whether all is here that the tool refers to.
    fn has_target(&self, tool: &ToolEntry) -> bool {
        match &tool.target {
            ToolTarget::Upstream { upstream_id, original_name: _ } => {
                self.upstreams.contains_key(upstream_id.as_str())
            }
            ToolTarget::Rest { binding: _, credential_id } => {
                credential_id.as_deref().is_none_or(|id| self.credentials.contains_key(id))
            }
        }
    }
}

fn as_tool(resource: &Resource) -> Option<&ToolResource> {
    let Resource::Tool(tool) = resource else { return None };
    Some(tool)
}

#[cfg(test)]
mod tests;
