//! What one endpoint shows: a selection of tools under the names it gives them, and all
//! else that its upstreams offer.

use std::sync::Arc;

use ahash::AHashSet;
use bytes::Bytes;
use proto::{EntryKind, Era, resource::UpstreamResource, virtual_server::Naming};

use super::{
    changed::ToolChange,
    entry::ToolEntry,
    extensions::Extensions,
    private::{PerCaller, PrivateCatalog},
    rendered::{Item, Lists},
    shelf::{Share, Shelf},
    toolbox::{self, Toolbox},
};
use crate::mcp::{
    Capabilities,
    beyond::Beyond,
    elicitation::Askers,
    extension::Hears,
    feature::{Feature, Features},
    list::ListKind,
    response::LIST_TTL_MS,
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
pub(super) type OfTasks = Vec<(Arc<str>, Features)>;

/// What one endpoint has, ready to be listed and looked up.
#[derive(Debug)]
pub struct View {
    /// Id of the virtual server; empty for everything.
    pub id: Box<str>,
    /// Name of the virtual server; empty for everything.
    pub name: Box<str>,
    /// What the upstreams tell models, under headings; may be empty.
    pub instructions: Box<str>,
    tools: Toolbox,
    shelf: Arc<Shelf>,
    /// All capabilities that anything here needs or has needed: others make no difference.
    relevant: Capabilities,
    lists: Lists,
    /// What upstreams of tools shown here offer, if it is tasks; in the order of the tools.
    tasks: OfTasks,
    extensions: Arc<Extensions>,
    /// Upstreams of which nothing is listed.
    unlisted: Arc<AHashSet<Box<str>>>,
    /// Who may ask the users of this endpoint, which is the same for all who see it.
    pub(super) askers: Askers,
    /// How long clients may keep its lists.
    ttl_ms: u32,
    /// How it is seen by each caller, where upstreams show each something else.
    private: Option<Box<PerCaller>>,
}

/// What a view is made of, in its order.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) id: Box<str>,
    pub(super) name: Box<str>,
    pub(super) naming: Naming,
    pub(super) tools: Vec<Arc<ToolEntry>>,
    pub(super) tasks: OfTasks,
    pub(super) shares: Vec<Share>,
    /// Upstreams, here or elsewhere, that speak no version of ours: what they had before is found
    /// by whoever knows it, and in no list (MCP guide §4.5).
    pub(super) unlisted: Arc<AHashSet<Box<str>>>,
}

impl Recipe {
    /// What a tool is called here.
    pub(super) fn name_of<'t>(&self, tool: &'t ToolEntry) -> &'t str {
        toolbox::name_of(self.naming, tool)
    }

    /// Who may ask: all upstreams that it has, also those of which nothing is shown yet.
    fn askers(&self) -> Askers {
        let of_tools = self.tools.iter().filter_map(|tool| tool.upstream_id());
        let mut all = self.shares.iter().map(|it| &*it.upstream.id).chain(of_tools);
        let first = all.next();
        if all.any(|id| Some(id) != first) { Askers::Several } else { Askers::One }
    }
}

impl View {
    /// `private` are those of its upstreams that show each caller something else.
    pub(super) fn new(recipe: Recipe, private: Vec<Arc<UpstreamResource>>) -> Self {
        let view = Self::of(&recipe, LIST_TTL_MS);
        let is_same_for_all = private.is_empty();
        let private = (!is_same_for_all).then(|| Box::new(PerCaller::new(recipe, private)));
        Self { private, ..view }
    }

    /// A view that is the same for all who get it.
    pub(super) fn of(recipe: &Recipe, ttl_ms: u32) -> Self {
        let Recipe { id, name, naming, tools: _, tasks, shares, unlisted } = recipe;
        let mut view = Self {
            id: id.clone(),
            name: name.clone(),
            instructions: instructions(shares.iter().filter_map(|it| {
                let is_told = it.is_whole && !unlisted.contains(it.upstream.id.as_str());
                is_told.then_some(&*it.upstream)
            })),
            tools: Toolbox::new(recipe),
            shelf: Shelf::new(shares, *naming, name).into(),
            relevant: Capabilities::NONE,
            lists: Lists::default(),
            tasks: tasks.clone(),
            ttl_ms,
            private: None,
            extensions: Arc::default(),
            askers: recipe.askers(),
            unlisted: Arc::clone(unlisted),
        };
        view.extensions = Extensions::new(shares, |id| !view.has_upstream(|it| it != id)).into();
        let all = ListKind::ALL.into_iter().flat_map(|kind| view.items(kind));
        view.relevant = all.fold(Capabilities::NONE, |all, item| all.or(item.needs));
        view
    }

    /// The same after these changes, itself if none is seen here; `None` if it has to be made anew.
    /// It must be the same for all who see it.
    pub(super) fn with_tools(self: &Arc<Self>, changes: &[ToolChange]) -> Option<Arc<Self>> {
        let mut here = changes.iter().filter(|change| self.tools.concerns(change)).peekable();
        if here.peek().is_none() {
            return Some(Arc::clone(self));
        }
        let (mut tools, mut relevant) = (self.tools.clone(), self.relevant);
        for change in here {
            tools.take(change)?;
            relevant = change.now().into_iter().fold(relevant, |all, new| all.or(new.needs));
        }
        Some(Arc::new(Self {
            id: self.id.clone(),
            name: self.name.clone(),
            instructions: self.instructions.clone(),
            tools,
            shelf: Arc::clone(&self.shelf),
            relevant,
            lists: Lists::default(),
            tasks: self.tasks.clone(),
            extensions: Arc::clone(&self.extensions),
            askers: self.askers,
            unlisted: Arc::clone(&self.unlisted),
            ttl_ms: self.ttl_ms,
            private: None,
        }))
    }

    /// The result of a list method for callers of this era with these capabilities: all in
    /// one page.
    pub fn list(&self, kind: ListKind, era: Era, capabilities: Capabilities) -> Bytes {
        let capabilities = capabilities.and(self.relevant);
        let key = (kind, era, capabilities);
        self.lists.whole(key, self.ttl_ms, || self.visible(kind, capabilities))
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
        Item::render(items, (kind, era), self.ttl_ms, next.as_deref())
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
        let is_listed = |upstream_id: &str| !self.unlisted.contains(upstream_id);
        let kind = match kind {
            ListKind::Tools => {
                let is_listed = move |tool: &ToolEntry| tool.upstream_id().is_none_or(is_listed);
                let listed = self.tools().filter(move |(_, tool)| is_listed(tool));
                return Box::new(listed.map(|(name, tool)| Item {
                    name,
                    definition: &tool.definition,
                    needs: tool.needs,
                }));
            }
            ListKind::Prompts => EntryKind::Prompt,
            ListKind::Resources => EntryKind::Resource,
            ListKind::ResourceTemplates => EntryKind::ResourceTemplate,
        };
        let shown = self.shelf.shown(kind).iter();
        let listed = shown.filter(move |(_, offer)| is_listed(&offer.upstream_id));
        Box::new(listed.map(|(name, offer)| Item {
            name,
            definition: &offer.definition,
            needs: offer.needs,
        }))
    }

    /// The upstreams that show each caller something else.
    pub fn private_upstreams(&self) -> &[Arc<UpstreamResource>] {
        self.private.as_ref().map_or(&[], |private| private.upstreams())
    }

    /// This endpoint for a caller to whom these catalogs were shown, in the order of
    /// [`Self::private_upstreams`]. Where it is not known what was, it is as for all.
    pub fn for_caller(&self, shown: &[Option<Arc<PrivateCatalog>>]) -> Option<Arc<Self>> {
        Some(self.private.as_ref()?.view(self, shown))
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

    /// The upstream that alone can be meant by a method of an extension.
    pub fn upstream_of(&self, method: &str) -> Option<&Arc<str>> {
        self.extensions.upstream_of(method)
    }

    /// What clients here hear of extensions; `declares`: whether this one declares any.
    pub fn hears(&self, declares: impl FnOnce() -> bool) -> Hears {
        if self.extensions.only.is_some() || declares() {
            return Hears::Extensions;
        }
        Hears::Core
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
        self.upstream_ids().any(is)
    }

    /// The upstreams of what is here; one may come often.
    fn upstream_ids(&self) -> impl Iterator<Item = &str> {
        let of_tools = self.tools().filter_map(|(_, tool)| tool.upstream_id());
        self.shelf.upstreams().chain(of_tools)
    }

    /// Who may ask the users of this endpoint.
    pub fn askers(&self) -> Askers {
        self.askers
    }

    /// The tool that is called `name` here, or by an alias.
    pub fn tool(&self, name: &str) -> Option<&Arc<ToolEntry>> {
        self.tools.get(name)
    }

    /// Names and tools in the order of the list.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &Arc<ToolEntry>)> {
        self.tools.iter()
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
