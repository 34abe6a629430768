//! An endpoint as one caller sees it: with what upstreams of scope `principal` show to that
//! caller in the place of what they show to all.

use std::{collections::VecDeque, sync::Arc};

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::{
    CatalogEntry, CatalogTool, EntryKind, PromptName, ToolName,
    entry::EntryResource,
    resource::{ToolResource, ToolTarget, UpstreamResource},
    virtual_server::Naming,
};

use super::{
    entry::ToolEntry,
    offer::Offer,
    shelf::{self, Share},
    view::{OfTasks, Recipe, View},
};
use crate::mcp::{
    feature::{Feature, Features},
    response::LIST_TTL_MS,
};

/// How long clients may keep a list for which an upstream could not be asked.
const UNKNOWN_TTL_MS: u32 = 5000;
/// Views that are kept for callers who come again, and the bytes of catalogs in them.
const VIEWS_MAX: usize = 256;
const VIEWS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What an upstream showed to one caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateCatalog {
    pub tools: Vec<CatalogTool>,
    pub entries: Vec<CatalogEntry>,
    /// How long it may be kept, in milliseconds.
    pub ttl_ms: u32,
    /// It was read on a connection that many share, as a client that can do everything: what
    /// others need for it, the configuration knows.
    pub is_of_all: bool,
}

impl PrivateCatalog {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let tools = self.tools.iter().map(|it| it.name.len() + it.definition.len());
        let entries = self.entries.iter().map(|it| it.original.len() + it.definition.len());
        tools.chain(entries).sum::<usize>() + 1024
    }
}

/// What callers were shown, in the order of the upstreams.
type Shown = Box<[Option<Arc<PrivateCatalog>>]>;

/// Makes the views of an endpoint that callers get.
#[derive(Debug)]
pub(super) struct PerCaller {
    recipe: Recipe,
    upstreams: Vec<Arc<UpstreamResource>>,
    /// The newest first.
    views: Mutex<VecDeque<(Shown, Arc<View>)>>,
}

impl PerCaller {
    pub(super) fn new(recipe: Recipe, upstreams: Vec<Arc<UpstreamResource>>) -> Self {
        Self { recipe, upstreams, views: Mutex::default() }
    }

    pub(super) fn upstreams(&self) -> &[Arc<UpstreamResource>] {
        &self.upstreams
    }

    /// The view for who was shown this; `base` is the one for all.
    pub(super) fn view(&self, base: &View, shown: &[Option<Arc<PrivateCatalog>>]) -> Arc<View> {
        let is_it = |(known, _): &(Shown, Arc<View>)| is_same(known, shown);
        if let Some((_, view)) = self.views.lock().iter().find(|entry| is_it(entry)) {
            return Arc::clone(view);
        }
        let view = Arc::new(self.make(base, shown));
        let mut views = self.views.lock();
        views.push_front((shown.into(), Arc::clone(&view)));
        let mut bytes = 0;
        let kept = views.iter().take(VIEWS_MAX).take_while(|(shown, _)| {
            bytes += shown.iter().flatten().map(|catalog| catalog.bytes()).sum::<usize>();
            bytes <= VIEWS_BYTES_MAX
        });
        // The one that is needed now stays, however big.
        let kept = kept.count().max(1);
        views.truncate(kept);
        view
    }

    fn make(&self, base: &View, shown: &[Option<Arc<PrivateCatalog>>]) -> View {
        let mut recipe = self.recipe.clone();
        let mut ttl_ms = LIST_TTL_MS;
        for (upstream, catalog) in self.upstreams.iter().zip(shown) {
            ttl_ms = ttl_ms.min(catalog.as_ref().map_or(UNKNOWN_TTL_MS, |it| it.ttl_ms));
            if let Some(catalog) = catalog {
                Replacing { base, upstream, catalog }.replace(&mut recipe);
            }
        }
        let mut view = View::of(&recipe, ttl_ms);
        view.askers = base.askers;
        view
    }
}

fn is_same(known: &Shown, shown: &[Option<Arc<PrivateCatalog>>]) -> bool {
    let same = |pair: (&Option<Arc<PrivateCatalog>>, &Option<Arc<PrivateCatalog>>)| match pair {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    known.len() == shown.len() && known.iter().zip(shown).all(same)
}

/// Puts what one upstream showed to a caller where a recipe has what it shows to all.
struct Replacing<'a> {
    base: &'a View,
    upstream: &'a Arc<UpstreamResource>,
    catalog: &'a PrivateCatalog,
}

impl Replacing<'_> {
    fn replace(&self, recipe: &mut Recipe) {
        let is_it = |share: &Share| share.upstream.id == self.upstream.id;
        self.replace_tools(recipe);
        // Who shows something speaks a version of ours, whatever others found before.
        if recipe.unlisted.contains(&*self.upstream.id) {
            Arc::make_mut(&mut recipe.unlisted).remove(&*self.upstream.id);
        }
        let naming = recipe.naming;
        for share in recipe.shares.iter_mut().filter(|share| is_it(share)) {
            share.offers = self.offers(share, naming);
        }
    }

    fn is_own(&self, tool: &ToolEntry) -> bool {
        tool.upstream_id() == Some(&*self.upstream.id)
    }

    /// Where the upstream is here as a whole, all that the caller was shown, else what was chosen
    /// of it.
    fn replace_tools(&self, recipe: &mut Recipe) {
        let is_whole = recipe
            .shares
            .iter()
            .any(|share| share.is_whole && share.upstream.id == self.upstream.id);
        let (known, mut others): (Vec<_>, Vec<_>) =
            recipe.tools.iter().cloned().partition(|tool| self.is_own(tool));
        let known: AHashMap<&str, _> =
            known.iter().map(|tool| (tool.original_name(), tool)).collect();
        let may_be_new = |tool: &ToolEntry| {
            // What all are shown keeps its name.
            let taken = self.base.tool(recipe.name_of(tool));
            is_whole && taken.is_none_or(|it| self.is_own(it))
        };
        let mut own: Vec<_> = self.tools(&known).collect();
        own.retain(|tool| known.contains_key(tool.original_name()) || may_be_new(tool));
        own.sort_by(|a, b| a.name.cmp(&b.name));
        self.note_tasks(&mut recipe.tasks, &own);
        if is_whole {
            let whole = recipe.shares.iter().filter(|share| share.is_whole).enumerate();
            let places: AHashMap<&str, usize> =
                whole.map(|(place, share)| (&*share.upstream.id, place)).collect();
            let place = |id: Option<&str>| id.and_then(|id| places.get(id)).copied();
            let here = place(Some(&*self.upstream.id));
            // After all whole ones come the single tools.
            let is_later = |it: &Arc<ToolEntry>| {
                place(it.upstream_id()).is_none_or(|place| Some(place) > here)
            };
            let at = others.iter().position(is_later).unwrap_or(others.len());
            others.splice(at..at, own);
            recipe.tools = others;
        } else {
            let own: AHashMap<&str, _> =
                own.iter().map(|tool| (tool.original_name(), tool)).collect();
            let shown = recipe.tools.iter().filter_map(|tool| {
                if self.is_own(tool) { own.get(tool.original_name()).copied() } else { Some(tool) }
            });
            recipe.tools = shown.cloned().collect();
        }
    }

    /// The tools of the catalog; those that all are shown have the same names.
    fn tools(
        &self,
        known: &AHashMap<&str, &Arc<ToolEntry>>,
    ) -> impl Iterator<Item = Arc<ToolEntry>> {
        let may_be_task = shelf::features_of(self.upstream).has(Feature::TasksExtension);
        self.catalog.tools.iter().filter_map(move |tool| {
            let CatalogTool { name: original, definition, needs_client_capabilities: _ } = tool;
            let known = known.get(&**original).copied();
            let is_same = |it: &&Arc<ToolEntry>| {
                it.definition.text() == definition
                    && (self.catalog.is_of_all || it.needs_names.is_empty())
            };
            if let Some(known) = known.filter(is_same) {
                return Some(Arc::clone(known));
            }
            let name = match known {
                Some(known) => known.name.to_string(),
                None => ToolName::exposed(&self.upstream.name, original).to_string(),
            };
            let needs = known.filter(|_| self.catalog.is_of_all);
            let entry = ToolEntry::read(&ToolResource {
                id: known.map_or_else(|| self.id("tool", original), |it| it.id.to_string()),
                name,
                target: ToolTarget::Upstream {
                    upstream_id: self.upstream.id.clone(),
                    original_name: original.clone(),
                },
                definition: definition.clone(),
                needs_client_capabilities: needs
                    .map(|it| it.needs_names.to_vec())
                    .unwrap_or_default(),
                aliases: known.map(|it| it.aliases.to_vec()).unwrap_or_default(),
            });
            let mut entry = entry.inspect_err(|problem| self.left_out(original, problem)).ok()?;
            if may_be_task {
                entry.definition.offer_tasks();
            }
            Some(Arc::new(entry))
        })
    }

    /// What the catalog has of a share besides tools.
    fn offers(&self, share: &Share, naming: Naming) -> Vec<Arc<Offer>> {
        let known: AHashMap<_, _> =
            share.offers.iter().map(|it| ((it.kind, &*it.original), it)).collect();
        let mut own: Vec<_> = self
            .catalog
            .entries
            .iter()
            .filter_map(|entry| {
                let known = known.get(&(entry.kind, &*entry.original)).copied();
                if known.is_none() && !share.is_whole {
                    return None;
                }
                let offer = self.offer(entry, known)?;
                (known.is_some() || self.may_be_new(&offer, naming)).then_some(offer)
            })
            .collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        own
    }

    fn offer(&self, entry: &CatalogEntry, known: Option<&Arc<Offer>>) -> Option<Arc<Offer>> {
        let CatalogEntry { kind, original, definition, needs_client_capabilities: _ } = entry;
        let name = match (known, kind) {
            (Some(known), _) => known.name.to_string(),
            (None, EntryKind::Prompt) => {
                PromptName::exposed(&self.upstream.name, original).to_string()
            }
            (None, EntryKind::Resource | EntryKind::ResourceTemplate) => String::new(),
        };
        let offer = Offer::read(&EntryResource {
            id: known.map_or_else(|| self.id(kind.as_str(), original), |it| it.id.to_string()),
            kind: *kind,
            upstream_id: self.upstream.id.clone(),
            name,
            original: original.clone(),
            definition: definition.clone(),
            needs_client_capabilities: Vec::new(),
        });
        let mut offer = offer.inspect_err(|problem| self.left_out(original, problem)).ok()?;
        if let Some(known) = known.filter(|_| self.catalog.is_of_all) {
            offer.needs = known.needs;
        }
        Some(Arc::new(offer))
    }

    /// Whether a prompt does not take the name of one that all are shown. Of URIs both can be
    /// shown.
    fn may_be_new(&self, offer: &Offer, naming: Naming) -> bool {
        let shown_as = match naming {
            Naming::Prefix => &offer.name,
            Naming::Bare => &offer.original,
        };
        let taken = self.base.shelf().prompt(shown_as);
        offer.kind != EntryKind::Prompt
            || taken.is_none_or(|it| *it.upstream_id == *self.upstream.id)
    }

    /// Tools that all cannot see may be tasks, too.
    fn note_tasks(&self, tasks: &mut OfTasks, own: &[Arc<ToolEntry>]) {
        let features = shelf::features_of(self.upstream).and(Features::of_tasks());
        let is_known = tasks.iter().any(|(id, _)| **id == *self.upstream.id);
        if !own.is_empty() && !is_known && features != Features::NONE {
            tasks.push((self.upstream.id.as_str().into(), features));
        }
    }

    fn id(&self, kind: &str, original: &str) -> String {
        format!("{}/{kind}/{original}", self.upstream.id)
    }

    fn left_out(&self, original: &str, problem: &str) {
        let upstream = self.upstream.name.as_str();
        tracing::debug!(upstream, original, "left out of a private catalog: {problem}");
    }
}

#[cfg(test)]
mod tests;
