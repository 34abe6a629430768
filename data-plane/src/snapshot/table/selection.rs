//! What endpoints are made of, chosen from the configuration.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use proto::{
    entry::EntryReference,
    resource::{UpstreamResource, VirtualServerResource},
    upstream::CatalogScope,
    virtual_server::Naming,
};

use super::{
    entry::ToolEntry,
    offer::Offer,
    shelf::{self, Share},
    view::{OfTasks, Recipe, View},
};
use crate::mcp::feature::Features;

/// Upstreams and what they offer, indexed to choose from.
pub(super) struct Selection<'a> {
    ordered: &'a [Arc<UpstreamResource>],
    upstreams: AHashMap<&'a str, &'a Arc<UpstreamResource>>,
    by_id: AHashMap<&'a str, &'a Arc<ToolEntry>>,
    by_upstream: AHashMap<&'a str, Vec<&'a Arc<ToolEntry>>>,
    offers: AHashMap<&'a str, Vec<Arc<Offer>>>,
    unlisted: Arc<AHashSet<Box<str>>>,
}

impl<'a> Selection<'a> {
    /// All slices are in order.
    pub(super) fn new(
        upstreams: &'a [Arc<UpstreamResource>],
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
            upstreams: upstreams.iter().map(|upstream| (upstream.id.as_str(), upstream)).collect(),
            by_id: tools.iter().map(|tool| (&*tool.id, tool)).collect(),
            by_upstream,
            offers: offered,
            // The era is known of all that were ever read, until they turn out to speak none.
            unlisted: Arc::new(
                upstreams
                    .iter()
                    .filter(|it| it.era.is_none())
                    .map(|it| it.id.as_str().into())
                    .collect(),
            ),
        }
    }

    fn tools_of(&self, upstream_id: &str) -> impl Iterator<Item = Arc<ToolEntry>> {
        self.by_upstream.get(upstream_id).into_iter().flatten().map(|tool| Arc::clone(tool))
    }

    /// All that these upstreams offer besides tools.
    fn shares(&self, upstreams: &[&Arc<UpstreamResource>]) -> Vec<Share> {
        let offers = |id: &str| self.offers.get(id).cloned().unwrap_or_default();
        let whole = upstreams.iter().map(|upstream| Share {
            upstream: Arc::clone(upstream),
            offers: offers(&upstream.id),
            is_whole: true,
        });
        whole.collect()
    }

    /// Adds single offers to the shares of a virtual server, in its order.
    fn add_single(&self, entries: &[EntryReference], shares: &mut Vec<Share>) {
        for EntryReference { upstream_id, kind, original } in entries {
            let upstream = self.upstreams.get(upstream_id.as_str()).filter(|it| !it.disabled);
            let mut offers = self.offers.get(upstream_id.as_str()).into_iter().flatten();
            let offer = offers.find(|it| it.kind == *kind && *it.original == **original);
            let (Some(upstream), Some(offer)) = (upstream, offer) else { continue };
            match shares.iter_mut().find(|share| share.upstream.id == *upstream_id) {
                Some(share) if share.is_whole => {}
                Some(share) => share.offers.push(Arc::clone(offer)),
                None => {
                    let (upstream, offers) = (Arc::clone(upstream), vec![Arc::clone(offer)]);
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

    /// Those of the upstreams of this recipe that show each caller something else.
    fn private(&self, tools: &[Arc<ToolEntry>], shares: &[Share]) -> Vec<Arc<UpstreamResource>> {
        let is_here = |id: &str| {
            shares.iter().any(|share| share.upstream.id == *id)
                || tools.iter().any(|tool| tool.upstream_id() == Some(id))
        };
        let scoped = self.ordered.iter().filter(|it| it.catalog_scope == CatalogScope::Principal);
        scoped.filter(|it| is_here(&it.id)).cloned().collect()
    }

    /// The view of `/mcp`. The tools are in order.
    pub(super) fn everything(&self, tools: &[Arc<ToolEntry>]) -> View {
        let enabled: Vec<_> = self.ordered.iter().filter(|it| !it.disabled).collect();
        let mut chosen = Vec::with_capacity(tools.len());
        for upstream in &enabled {
            chosen.extend(self.tools_of(&upstream.id));
        }
        chosen.extend(tools.iter().filter(|tool| tool.upstream_id().is_none()).cloned());
        self.compile(("", "", Naming::Prefix), chosen, self.shares(&enabled))
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
            if taken.insert(Arc::as_ptr(&tool)) {
                chosen.push(tool);
            }
        }
        let mut shares = self.shares(&upstreams);
        self.add_single(entries, &mut shares);
        self.compile((id, name.as_str(), *naming), chosen, shares)
    }

    fn compile(
        &self,
        (id, name, naming): (&str, &str, Naming),
        tools: Vec<Arc<ToolEntry>>,
        shares: Vec<Share>,
    ) -> View {
        let (tasks, private) = (self.tasks(&tools), self.private(&tools, &shares));
        let (id, name, unlisted) = (id.into(), name.into(), Arc::clone(&self.unlisted));
        let recipe = Recipe { id, name, naming, tools, tasks, shares, unlisted };
        View::new(recipe, private)
    }
}
