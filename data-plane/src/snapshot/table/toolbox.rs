//! The tools of one endpoint: what they are called here, their order, and how they come and go.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use proto::virtual_server::Naming;

use super::{
    changed::ToolChange,
    chunked::{Chunked, Place},
    entry::ToolEntry,
    sharded::Sharded,
    view::Recipe,
};

/// Tools in the order of the list, and by name. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Toolbox {
    naming: Naming,
    tools: Chunked<Arc<ToolEntry>>,
    /// By what they are called here, and by aliases.
    by_name: Sharded<Arc<ToolEntry>>,
    /// Where the tools of upstreams stand that are here as a whole. Others come after all these,
    /// in the order of the virtual server.
    ranks: Arc<AHashMap<Box<str>, usize>>,
    /// All tools are here that are authored here, after those of upstreams.
    has_authored: bool,
    /// Names that more than one tool would have: if one goes, another gets it.
    disputed: Arc<AHashSet<Box<str>>>,
}

impl Toolbox {
    /// Tools whose name is taken are left out, with a word in the log.
    pub(super) fn new(recipe: &Recipe) -> Self {
        let Recipe { id, name: server, naming, tools, tasks: _, shares, unlisted: _ } = recipe;
        let mut ranks = AHashMap::new();
        for share in shares.iter().filter(|share| share.is_whole) {
            let rank = ranks.len();
            ranks.entry(share.upstream.id.as_str().into()).or_insert(rank);
        }
        let names = tools.iter().map(|tool| 1 + tool.aliases.len()).sum();
        let mut by_name = Sharded::for_names(names);
        let mut disputed = AHashSet::new();
        let mut shown: Vec<Arc<ToolEntry>> = Vec::with_capacity(tools.len());
        for tool in tools {
            let shown_as = name_of(*naming, tool);
            if by_name.get(shown_as).is_some() {
                let (server, name) = (&**server, &*tool.name);
                tracing::warn!(server, tool = name, "`{shown_as}` is taken, tool left out");
                disputed.insert(shown_as.into());
                continue;
            }
            by_name.insert(shown_as, Arc::clone(tool));
            shown.push(Arc::clone(tool));
        }
        for tool in &shown {
            for alias in &tool.aliases {
                match by_name.get(alias) {
                    Some(it) if Arc::ptr_eq(it, tool) => {}
                    Some(_) => drop(disputed.insert(alias.as_str().into())),
                    None => drop(by_name.insert(alias, Arc::clone(tool))),
                }
            }
        }
        Self {
            naming: *naming,
            tools: shown.into_iter().collect(),
            by_name,
            ranks: ranks.into(),
            has_authored: id.is_empty(),
            disputed: disputed.into(),
        }
    }

    /// The tool that is called `name` here, or by an alias.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<ToolEntry>> {
        self.by_name.get(name)
    }

    /// Names and tools in the order of the list.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<ToolEntry>)> {
        self.tools.iter().map(|tool| (self.name_of(tool), tool))
    }

    /// Whether this change is seen here.
    pub(super) fn concerns(&self, change: &ToolChange) -> bool {
        change.before().is_some_and(|old| self.has(old))
            || change.now().is_some_and(|new| self.rank(new).is_some())
    }

    /// One change more. `None` if names are disputed: then what is here has to be chosen anew, and
    /// this is of no use.
    pub(super) fn take(&mut self, change: &ToolChange) -> Option<()> {
        match change {
            ToolChange::Described { old, new } => self.replace(old, new),
            ToolChange::Replaced { old, new } => {
                old.as_ref().map_or(Some(()), |old| self.remove(old))?;
                new.as_ref().map_or(Some(()), |new| self.insert(new))
            }
        }
    }

    fn replace(&mut self, old: &Arc<ToolEntry>, new: &Arc<ToolEntry>) -> Option<()> {
        if !self.has(old) {
            return Some(());
        }
        let is_it = |it: &Arc<ToolEntry>| Arc::ptr_eq(it, old);
        let place = match self.place(old) {
            Some(place) => place.ok()?,
            None => self.tools.find(is_it)?,
        };
        self.tools.replace(place, Arc::clone(new))?;
        for name in names(self.naming, old) {
            if self.by_name.get(name).is_some_and(is_it) {
                self.by_name.insert(name, Arc::clone(new));
            }
        }
        Some(())
    }

    fn remove(&mut self, old: &Arc<ToolEntry>) -> Option<()> {
        if !self.has(old) {
            return Some(());
        }
        if names(self.naming, old).any(|name| self.disputed.contains(name)) {
            return None;
        }
        self.tools.remove(self.place(old)?.ok()?)?;
        for name in names(self.naming, old) {
            self.by_name.remove(name);
        }
        Some(())
    }

    fn insert(&mut self, new: &Arc<ToolEntry>) -> Option<()> {
        let Some(place) = self.place(new) else { return Some(()) };
        if names(self.naming, new).any(|name| self.by_name.get(name).is_some()) {
            return None;
        }
        self.tools.insert(place.err()?, Arc::clone(new))?;
        for name in names(self.naming, new) {
            self.by_name.insert(name, Arc::clone(new));
        }
        Some(())
    }

    /// Whether this very one is shown here.
    fn has(&self, tool: &Arc<ToolEntry>) -> bool {
        self.get(self.name_of(tool)).is_some_and(|it| Arc::ptr_eq(it, tool))
    }

    /// What all of it is ordered by first; `None` if it is not here, or was chosen alone.
    fn rank(&self, tool: &ToolEntry) -> Option<usize> {
        match tool.upstream_id() {
            Some(id) => self.ranks.get(id).copied(),
            None => self.has_authored.then_some(self.ranks.len()),
        }
    }

    /// Where a tool is or would be, if it has a rank.
    fn place(&self, tool: &ToolEntry) -> Option<Result<Place, Place>> {
        let rank = self.rank(tool)?;
        Some(self.tools.search(|it| {
            let by_rank = self.rank(it).unwrap_or(usize::MAX).cmp(&rank);
            by_rank.then_with(|| it.order().cmp(&tool.order()))
        }))
    }

    fn name_of<'t>(&self, tool: &'t ToolEntry) -> &'t str {
        name_of(self.naming, tool)
    }
}

/// What a tool is called at an endpoint that names its tools so.
pub(super) fn name_of(naming: Naming, tool: &ToolEntry) -> &str {
    match naming {
        Naming::Prefix => &tool.name,
        Naming::Bare => tool.original_name(),
    }
}

/// All that it may be called by.
fn names(naming: Naming, tool: &ToolEntry) -> impl Iterator<Item = &str> {
    [name_of(naming, tool)].into_iter().chain(tool.aliases.iter().map(String::as_str))
}
