//! What one endpoint shows: a selection of tools under the names it gives them, and all
//! else that its upstreams offer.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use proto::{
    EntryKind, Era,
    entry::EntryReference,
    resource::{UpstreamResource, VirtualServerResource},
    virtual_server::Naming,
};

use super::{
    entry::ToolEntry,
    extensions::Extensions,
    offer::Offer,
    rendered::{Item, Lists},
    shelf::{self, Share, Shelf},
};
use crate::mcp::{
    Capabilities,
    beyond::Beyond,
    feature::{Feature, Features},
    list::ListKind,
};

/// Longest instructions that a client is given, in bytes.
const INSTRUCTIONS_MAX: usize = 16 * 1024;
/// What of its upstreams' features an endpoint passes on.
const PASSED_ON: [Feature; 5] = [
    Feature::Prompts,
    Feature::Resources,
    Feature::Subscribe,
    Feature::Completions,
    Feature::Logging,
];

/// Upstreams with the tasks that they offer.
type OfTasks = Vec<(Arc<str>, Features)>;

/// What one endpoint has, ready to be listed and looked up.
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
    shelf: Shelf,
    /// All capabilities that anything here needs: others make no difference.
    relevant: Capabilities,
    lists: Lists,
    /// What upstreams of tools shown here offer, if it is tasks; in the order of the tools.
    tasks: OfTasks,
    extensions: Extensions,
}

impl View {
    /// The view of `/mcp`. The slices are in order.
    pub(super) fn of_everything(selection: &Selection<'_>, tools: &[Arc<ToolEntry>]) -> Self {
        let enabled: Vec<_> = selection.ordered.iter().copied().filter(|it| !it.disabled).collect();
        let mut chosen = Vec::with_capacity(tools.len());
        for upstream in &enabled {
            chosen.extend(selection.tools_of(&upstream.id));
        }
        chosen.extend(tools.iter().filter(|tool| tool.upstream_id().is_none()).cloned());
        let tasks = selection.tasks(&chosen);
        Self::new(("", ""), (chosen, tasks), Naming::Prefix, &selection.shares(&enabled))
    }

    fn new(
        (id, name): (&str, &str),
        (tools, tasks): (Vec<Arc<ToolEntry>>, OfTasks),
        naming: Naming,
        shares: &[Share<'_>],
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
        let shelf = Shelf::new(shares, naming, name);
        let mut view = Self {
            id: id.into(),
            name: name.into(),
            instructions: instructions(
                shares.iter().filter(|it| it.is_whole).map(|it| it.upstream),
            ),
            shown,
            by_name,
            shelf,
            relevant: Capabilities::NONE,
            lists: Lists::default(),
            tasks,
            extensions: Extensions::default(),
        };
        view.extensions = Extensions::new(shares, |id| !view.has_upstream(|it| it != id));
        let all = ListKind::ALL.into_iter().flat_map(|kind| view.items(kind));
        view.relevant = all.fold(Capabilities::NONE, |all, item| all.or(item.needs));
        view
    }

    /// The result of a list method for callers of this era with these capabilities: all in
    /// one page.
    pub fn list(&self, kind: ListKind, era: Era, capabilities: Capabilities) -> Bytes {
        let capabilities = capabilities.and(self.relevant);
        self.lists.whole((kind, era, capabilities), || self.visible(kind, capabilities))
    }

    /// A page of that result: at most `size` items from `start` on. `cursor` makes the next
    /// page's, given its start.
    pub fn page(
        &self,
        (kind, era, capabilities): (ListKind, Era, Capabilities),
        (start, size): (usize, usize),
        cursor: impl FnOnce(usize) -> Option<String>,
    ) -> Bytes {
        let items: Vec<_> = self.visible(kind, capabilities).skip(start).take(size + 1).collect();
        let next = (items.len() > size).then(|| cursor(start + size)).flatten();
        // Without a cursor nobody could ask for the rest.
        let size = if items.len() > size && next.is_none() { usize::MAX } else { size };
        let items = self.visible(kind, capabilities).skip(start).take(size);
        Item::render(items, kind, era, next.as_deref())
    }

    /// A number that changes with what a list shows to callers with these capabilities.
    pub fn fingerprint(&self, kind: ListKind, capabilities: Capabilities) -> u64 {
        let capabilities = capabilities.and(self.relevant);
        self.lists.fingerprint((kind, capabilities), || self.visible(kind, capabilities))
    }

    fn visible(&self, kind: ListKind, has: Capabilities) -> impl Iterator<Item = Item<'_>> {
        self.items(kind).filter(move |item| has.contains(item.needs))
    }

    fn items(&self, kind: ListKind) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
        let kind = match kind {
            ListKind::Tools => {
                return Box::new(self.shown.iter().map(|(name, tool)| Item {
                    name,
                    definition: &tool.definition,
                    needs: tool.needs,
                }));
            }
            ListKind::Prompts => EntryKind::Prompt,
            ListKind::Resources => EntryKind::Resource,
            ListKind::ResourceTemplates => EntryKind::ResourceTemplate,
        };
        Box::new(self.shelf.shown(kind).iter().map(|(name, offer)| Item {
            name,
            definition: &offer.definition,
            needs: offer.needs,
        }))
    }

    /// What `initialize` and `server/discover` announce: exactly what can be served here.
    /// Tools always can be, if there are none yet.
    pub fn features(&self, era: Era) -> Features {
        let passed_on: Features = PASSED_ON.into_iter().collect();
        let of_each = self.tasks.iter().map(|(_, it)| it.tasks_for(era));
        let tasks = of_each.fold(Features::NONE, Features::or);
        let features = self.shelf.features().and(passed_on).with(Feature::Tools);
        features.announcing().or(tasks)
    }

    /// Which kinds of tasks an upstream has whose tools are shown here.
    pub fn tasks_of(&self, upstream_id: &str) -> Features {
        let found = self.tasks.iter().find(|(id, _)| **id == *upstream_id);
        found.map(|(_, features)| *features).unwrap_or_default()
    }

    /// The upstreams of tools shown here that have this kind of tasks.
    pub fn upstreams_with(&self, kind: Feature) -> impl Iterator<Item = &Arc<str>> {
        self.tasks.iter().filter(move |(_, features)| features.has(kind)).map(|(id, _)| id)
    }

    /// What upstreams here declare that we do not know.
    pub fn beyond(&self) -> &Beyond {
        &self.extensions.beyond
    }

    /// Prompts and resources.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Whether anything here is of an upstream of which this is true.
    pub fn has_upstream(&self, is: impl Fn(&str) -> bool) -> bool {
        self.shelf.upstreams().any(&is)
            || self.shown.iter().filter_map(|(_, tool)| tool.upstream_id()).any(is)
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

/// Upstreams and what they offer, indexed to choose from.
pub(super) struct Selection<'a> {
    ordered: &'a [&'a UpstreamResource],
    upstreams: AHashMap<&'a str, &'a UpstreamResource>,
    by_id: AHashMap<&'a str, &'a Arc<ToolEntry>>,
    by_upstream: AHashMap<&'a str, Vec<&'a Arc<ToolEntry>>>,
    offers: AHashMap<&'a str, Vec<Arc<Offer>>>,
}

impl<'a> Selection<'a> {
    /// All slices are in order.
    pub(super) fn new(
        upstreams: &'a [&'a UpstreamResource],
        tools: &'a [Arc<ToolEntry>],
        offers: &'a [Arc<Offer>],
    ) -> Self {
        let mut by_upstream: AHashMap<_, Vec<_>> = AHashMap::new();
        for tool in tools {
            by_upstream.entry(tool.upstream_id().unwrap_or_default()).or_default().push(tool);
        }
        let mut offered: AHashMap<_, Vec<_>> = AHashMap::new();
        for offer in offers {
            offered.entry(&*offer.upstream_id).or_default().push(Arc::clone(offer));
        }
        Self {
            ordered: upstreams,
            upstreams: upstreams.iter().map(|upstream| (upstream.id.as_str(), *upstream)).collect(),
            by_id: tools.iter().map(|tool| (&*tool.id, tool)).collect(),
            by_upstream,
            offers: offered,
        }
    }

    fn tools_of(&self, upstream_id: &str) -> impl Iterator<Item = Arc<ToolEntry>> {
        self.by_upstream.get(upstream_id).into_iter().flatten().map(|tool| Arc::clone(tool))
    }

    /// All that these upstreams offer besides tools.
    fn shares<'u>(&self, upstreams: &[&'u UpstreamResource]) -> Vec<Share<'u>> {
        let offers = |id: &str| self.offers.get(id).cloned().unwrap_or_default();
        let whole = upstreams.iter().map(|upstream| Share {
            upstream,
            offers: offers(&upstream.id),
            is_whole: true,
        });
        whole.collect()
    }

    /// Adds single offers to the shares of a virtual server, in its order.
    fn add_single(&self, entries: &[EntryReference], shares: &mut Vec<Share<'a>>) {
        for EntryReference { upstream_id, kind, original } in entries {
            let upstream = self.upstreams.get(upstream_id.as_str()).filter(|it| !it.disabled);
            let mut offers = self.offers.get(upstream_id.as_str()).into_iter().flatten();
            let offer = offers.find(|it| it.kind == *kind && *it.original == **original);
            let (Some(upstream), Some(offer)) = (upstream, offer) else { continue };
            match shares.iter_mut().find(|share| share.upstream.id == *upstream_id) {
                Some(share) if share.is_whole => {}
                Some(share) => share.offers.push(Arc::clone(offer)),
                None => {
                    let offers = vec![Arc::clone(offer)];
                    shares.push(Share { upstream, offers, is_whole: false });
                }
            }
        }
    }

    /// The upstreams of these tools that have tasks of some kind.
    fn tasks(&self, tools: &[Arc<ToolEntry>]) -> OfTasks {
        let mut seen = AHashSet::new();
        let ids = tools.iter().filter_map(|tool| tool.upstream_id()).filter(|id| seen.insert(*id));
        let features = ids.filter_map(|id| {
            let features = shelf::features_of(self.upstreams.get(id)?);
            let tasks = features.and(Features::of_tasks());
            (tasks != Features::NONE).then(|| (id.into(), tasks))
        });
        features.collect()
    }

    /// The selection of a virtual server: its upstreams in its order, then its single tools,
    /// prompts and resources in its order. What is disabled or was left out is not there.
    pub(super) fn view(&self, server: &VirtualServerResource) -> View {
        let VirtualServerResource {
            id,
            name,
            description: _,
            upstream_ids,
            tool_ids,
            entries,
            naming,
        } = server;
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
        let mut shares = self.shares(&upstreams);
        self.add_single(entries, &mut shares);
        let tasks = self.tasks(&chosen);
        View::new((id, name.as_str()), (chosen, tasks), *naming, &shares)
    }
}

/// Instructions of several servers as one text; a later one that does not fit is left out.
fn instructions<'a>(upstreams: impl Iterator<Item = &'a UpstreamResource>) -> Box<str> {
    let mut out = String::new();
    for upstream in upstreams.filter(|upstream| !upstream.instructions.is_empty()) {
        let gap = if out.is_empty() { "" } else { "\n\n" };
        let part = format!("{gap}## {}\n\n{}", upstream.name, upstream.instructions.trim());
        if out.len() + part.len() <= INSTRUCTIONS_MAX {
            out.push_str(&part);
        }
    }
    out.into()
}
