//! What one endpoint shows: a selection of tools under the names it gives them.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use arc_swap::ArcSwap;
use bytes::Bytes;
use proto::{
    Era,
    resource::{UpstreamResource, VirtualServerResource},
    virtual_server::Naming,
};

use super::entry::ToolEntry;
use crate::mcp::{Capabilities, list};

/// Longest instructions that a client is given, in bytes.
const INSTRUCTIONS_MAX: usize = 16 * 1024;

/// The tools of one endpoint, ready to be listed and looked up.
#[derive(Debug)]
pub struct View {
    /// Id of the virtual server; empty for everything.
    pub id: Box<str>,
    /// Name of the virtual server; empty for everything.
    pub name: Box<str>,
    /// What the upstreams tell models, under headings; may be empty.
    pub instructions: Box<str>,
    /// Name here, and the tool; in the order of the list.
    shown: Vec<(Box<str>, Arc<ToolEntry>)>,
    by_name: AHashMap<Box<str>, Arc<ToolEntry>>,
    /// All capabilities that any tool here needs: others make no difference.
    relevant: Capabilities,
    lists: ArcSwap<Vec<Rendered>>,
}

/// One `tools/list` result, rendered when somebody first asked for it.
#[derive(Clone, Debug)]
struct Rendered {
    era: Era,
    capabilities: Capabilities,
    result: Bytes,
}

impl View {
    /// The view of `/mcp`. Both slices are in order.
    pub(super) fn of_everything(upstreams: &[&UpstreamResource], tools: &[Arc<ToolEntry>]) -> Self {
        let enabled: Vec<_> = upstreams.iter().copied().filter(|it| !it.disabled).collect();
        let selection = Selection::new(upstreams, tools);
        let mut chosen = Vec::with_capacity(tools.len());
        for upstream in &enabled {
            chosen.extend(selection.tools_of(&upstream.id));
        }
        chosen.extend(tools.iter().filter(|tool| tool.upstream_id().is_none()).cloned());
        Self::new(("", ""), chosen, Naming::Prefix, &enabled)
    }

    fn new(
        (id, name): (&str, &str),
        tools: Vec<Arc<ToolEntry>>,
        naming: Naming,
        upstreams: &[&UpstreamResource],
    ) -> Self {
        let mut shown: Vec<(Box<str>, Arc<ToolEntry>)> = Vec::with_capacity(tools.len());
        let mut by_name = AHashMap::with_capacity(tools.len());
        for tool in tools {
            let shown_as = match naming {
                Naming::Prefix => &*tool.name,
                Naming::Bare => tool.original_name(),
            };
            if by_name.contains_key(shown_as) {
                tracing::warn!(
                    server = name,
                    tool = &*tool.name,
                    "`{shown_as}` is taken, tool left out"
                );
                continue;
            }
            by_name.insert(shown_as.into(), Arc::clone(&tool));
            shown.push((shown_as.into(), tool));
        }
        for (_, tool) in &shown {
            for alias in &tool.aliases {
                by_name.entry(alias.as_str().into()).or_insert_with(|| Arc::clone(tool));
            }
        }
        let relevant = shown.iter().fold(Capabilities::NONE, |all, (_, tool)| all.or(tool.needs));
        Self {
            id: id.into(),
            name: name.into(),
            instructions: instructions(upstreams),
            shown,
            by_name,
            relevant,
            lists: ArcSwap::default(),
        }
    }

    /// The result of `tools/list` for callers of this era with these capabilities.
    pub fn tools_list(&self, era: Era, capabilities: Capabilities) -> Bytes {
        let capabilities = capabilities.and(self.relevant);
        let is_same = |it: &&Rendered| it.era == era && it.capabilities == capabilities;
        if let Some(rendered) = self.lists.load().iter().find(is_same) {
            return rendered.result.clone();
        }
        let visible = self.shown.iter().filter(|(_, tool)| capabilities.contains(tool.needs));
        let result =
            list::tools_result(visible.map(|(name, tool)| (&**name, &tool.definition)), era);
        // Two may render at once; then one list is kept twice and both are right.
        self.lists.rcu(|lists| {
            let rendered = Rendered { era, capabilities, result: result.clone() };
            lists.iter().cloned().chain([rendered]).collect::<Vec<_>>()
        });
        result
    }

    /// The tool that is called `name` here, or by an alias.
    pub fn tool(&self, name: &str) -> Option<&Arc<ToolEntry>> {
        self.by_name.get(name)
    }

    /// Names and tools in the order of the list.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &Arc<ToolEntry>)> {
        self.shown.iter().map(|(name, tool)| (&**name, tool))
    }
}

/// Tools and upstreams, indexed to choose from.
pub(super) struct Selection<'a> {
    upstreams: AHashMap<&'a str, &'a UpstreamResource>,
    by_id: AHashMap<&'a str, &'a Arc<ToolEntry>>,
    by_upstream: AHashMap<&'a str, Vec<&'a Arc<ToolEntry>>>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(upstreams: &[&'a UpstreamResource], tools: &'a [Arc<ToolEntry>]) -> Self {
        let mut by_upstream: AHashMap<_, Vec<_>> = AHashMap::new();
        for tool in tools {
            by_upstream.entry(tool.upstream_id().unwrap_or_default()).or_default().push(tool);
        }
        Self {
            upstreams: upstreams.iter().map(|upstream| (upstream.id.as_str(), *upstream)).collect(),
            by_id: tools.iter().map(|tool| (&*tool.id, tool)).collect(),
            by_upstream,
        }
    }

    fn tools_of(&self, upstream_id: &str) -> impl Iterator<Item = Arc<ToolEntry>> {
        self.by_upstream.get(upstream_id).into_iter().flatten().map(|tool| Arc::clone(tool))
    }

    /// The selection of a virtual server: its upstreams in its order, then its single tools
    /// in its order. What is disabled or was left out is not there.
    pub(super) fn view(&self, server: &VirtualServerResource) -> View {
        let VirtualServerResource { id, name, description: _, upstream_ids, tool_ids, naming } =
            server;
        let enabled = |id: &str| self.upstreams.get(id).copied().filter(|it| !it.disabled);
        let upstreams: Vec<_> = upstream_ids.iter().filter_map(|id| enabled(id)).collect();
        let mut taken = AHashSet::new();
        let mut chosen = Vec::new();
        let singles = tool_ids.iter().filter_map(|id| self.by_id.get(id.as_str()));
        let singles =
            singles.filter(|tool| tool.upstream_id().is_none_or(|id| enabled(id).is_some()));
        let whole = upstreams.iter().flat_map(|upstream| self.tools_of(&upstream.id));
        for tool in whole.chain(singles.map(|tool| Arc::clone(tool))) {
            if taken.insert(tool.id.clone()) {
                chosen.push(tool);
            }
        }
        View::new((id, name.as_str()), chosen, *naming, &upstreams)
    }
}

/// Instructions of several servers as one text; a later one that does not fit is left out.
fn instructions(upstreams: &[&UpstreamResource]) -> Box<str> {
    let mut out = String::new();
    for upstream in upstreams.iter().filter(|upstream| !upstream.instructions.is_empty()) {
        let gap = if out.is_empty() { "" } else { "\n\n" };
        let part = format!("{gap}## {}\n\n{}", upstream.name, upstream.instructions.trim());
        if out.len() + part.len() <= INSTRUCTIONS_MAX {
            out.push_str(&part);
        }
    }
    out.into()
}
