//! Prompts, resources and templates of one endpoint: how they are shown and found.
//!
//! URIs stay as they are. Only where two upstreams have the same one, the upstream whose
//! name comes later shows it behind a marker of its own.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use proto::{EntryKind, Era, resource::UpstreamResource, virtual_server::Naming};

use super::offer::Offer;
use crate::mcp::{
    Capabilities,
    feature::{Feature, Features},
    uri::{self, UriTemplate, Uris},
};

type Shown = (Box<str>, Arc<Offer>);

/// What one upstream has at one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) upstream: Arc<UpstreamResource>,
    pub(super) offers: Vec<Arc<Offer>>,
    /// All that it offers is here, and what it does not list may be asked for too.
    pub(super) is_whole: bool,
}

/// What the upstreams of one endpoint offer besides tools.
#[derive(Debug, Default)]
pub struct Shelf {
    prompts: Vec<Shown>,
    prompts_by_name: AHashMap<Box<str>, Arc<Offer>>,
    resources: Vec<Shown>,
    /// By the URI shown.
    resources_by_uri: AHashMap<Box<str>, Arc<Offer>>,
    templates: Vec<Shown>,
    /// The templates as they are shown, those that say most first.
    matchers: Vec<(UriTemplate, Arc<Offer>)>,
    /// Of upstreams that have to show some URIs differently.
    uris: AHashMap<Arc<str>, Arc<Uris>>,
    by_marker: AHashMap<Box<str>, Arc<str>>,
    /// The only upstream that lists URIs of a scheme; `None`: several do.
    by_scheme: AHashMap<Box<str>, Option<Arc<str>>>,
    /// The only upstream that has resources at all.
    only: Option<Arc<str>>,
    /// What may be asked of each upstream.
    features: AHashMap<Arc<str>, Features>,
}

/// A resource and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub upstream_id: Arc<str>,
    /// As the upstream knows it.
    pub uri: Box<str>,
    pub needs: Capabilities,
}

impl Shelf {
    /// The shares are in the order of the view.
    pub(super) fn new(shares: &[Share], naming: Naming, server: &str) -> Self {
        let mut shelf = Self { uris: marks(shares), ..Self::default() };
        for (id, uris) in &shelf.uris {
            shelf.by_marker.insert(uris.marker.clone(), Arc::clone(id));
        }
        for share in shares {
            for offer in &share.offers {
                let shown = shelf.take(offer, naming, server);
                if let (true, Some(uri)) = (share.is_whole, shown) {
                    shelf.know_scheme(&uri, &offer.upstream_id);
                }
            }
            shelf.features.insert(share.upstream.id.as_str().into(), share.features());
        }
        let mut having = shares
            .iter()
            .filter(|share| share.is_whole && share.features().has(Feature::Resources));
        let first = having.next().map(|share| share.upstream.id.as_str().into());
        shelf.only = first.filter(|_| having.next().is_none());
        // Stable: of two that say as much, the first shown is meant.
        shelf.matchers.sort_by_key(|(template, _)| std::cmp::Reverse(template.literal_length()));
        shelf
    }

    /// Gives the URI or template that it is shown under, if it has one.
    fn take(&mut self, offer: &Arc<Offer>, naming: Naming, server: &str) -> Option<Box<str>> {
        let marked =
            self.uris.get(&offer.upstream_id).filter(|it| it.marked.contains(&offer.original));
        let shown = match (offer.kind, naming) {
            (EntryKind::Prompt, Naming::Prefix) => offer.name.clone(),
            (EntryKind::Prompt, Naming::Bare) => offer.original.clone(),
            (EntryKind::Resource | EntryKind::ResourceTemplate, _) => match marked {
                Some(uris) => format!("{}{}", uris.marker, offer.original).into(),
                None => offer.original.clone(),
            },
        };
        let entry = (shown.clone(), Arc::clone(offer));
        match offer.kind {
            EntryKind::Prompt => {
                if self.prompts_by_name.contains_key(&shown) {
                    let prompt = &*offer.name;
                    tracing::warn!(server, prompt, "`{shown}` is taken, prompt left out");
                    return None;
                }
                self.prompts_by_name.insert(shown, Arc::clone(offer));
                self.prompts.push(entry);
                return None;
            }
            EntryKind::Resource => {
                self.resources_by_uri.insert(shown.clone(), Arc::clone(offer));
                self.resources.push(entry);
            }
            EntryKind::ResourceTemplate => {
                self.matchers.push((UriTemplate::read(&shown), Arc::clone(offer)));
                self.templates.push(entry);
            }
        }
        Some(shown)
    }

    /// Ids of the upstreams of which anything is here.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &str> {
        self.features.keys().map(|id| &**id)
    }

    fn know_scheme(&mut self, shown: &str, upstream_id: &Arc<str>) {
        let known = self
            .by_scheme
            .entry(uri::scheme(shown).into())
            .or_insert_with(|| Some(Arc::clone(upstream_id)));
        if known.as_ref().is_some_and(|known| known != upstream_id) {
            *known = None;
        }
    }

    /// What is listed of one kind, with the name, URI or template it is shown under.
    pub fn shown(&self, kind: EntryKind) -> &[(Box<str>, Arc<Offer>)] {
        match kind {
            EntryKind::Prompt => &self.prompts,
            EntryKind::Resource => &self.resources,
            EntryKind::ResourceTemplate => &self.templates,
        }
    }

    /// The prompt that is called `name` here.
    pub fn prompt(&self, name: &str) -> Option<&Arc<Offer>> {
        self.prompts_by_name.get(name)
    }

    /// The template that is written like this here.
    pub fn template(&self, shown: &str) -> Option<&Arc<Offer>> {
        self.templates.iter().find(|(text, _)| **text == *shown).map(|(_, offer)| offer)
    }

    /// Where a URI leads: what is listed, then what fits a template, then the upstream that
    /// alone has URIs of this scheme, or resources at all. Servers take more than they list.
    pub fn resource(&self, shown: &str) -> Option<Found> {
        if let Some(offer) = self.resources_by_uri.get(shown) {
            let (upstream_id, uri) = (Arc::clone(&offer.upstream_id), offer.original.clone());
            return Some(Found { upstream_id, uri, needs: offer.needs });
        }
        let scheme = uri::scheme(shown);
        let found = |upstream_id: &Arc<str>, needs| Found {
            upstream_id: Arc::clone(upstream_id),
            uri: self.original(&scheme, shown).into(),
            needs,
        };
        if let Some((_, offer)) = self.matchers.iter().find(|(template, _)| template.matches(shown))
        {
            return Some(found(&offer.upstream_id, offer.needs));
        }
        let by_scheme = || self.by_scheme.get(&*scheme).cloned();
        let by_marker = self.by_marker.get(&*scheme).cloned().map(Some);
        let upstream_id = by_marker.or_else(by_scheme).unwrap_or_else(|| self.only.clone())?;
        Some(found(&upstream_id, Capabilities::NONE))
    }

    /// A URI without the marker that we put before it.
    fn original<'a>(&self, scheme: &str, shown: &'a str) -> &'a str {
        if self.by_marker.contains_key(scheme) {
            return shown.get(scheme.len()..).unwrap_or(shown);
        }
        shown
    }

    /// How URIs of an upstream are shown; `None`: as they are.
    pub fn uris(&self, upstream_id: &str) -> Option<Arc<Uris>> {
        if self.uris.is_empty() {
            return None;
        }
        self.uris.get(upstream_id).cloned()
    }

    /// What one upstream offers.
    pub fn features_of(&self, upstream_id: &str) -> Features {
        self.features.get(upstream_id).copied().unwrap_or_default()
    }

    /// What any upstream here offers.
    pub fn features(&self) -> Features {
        self.features.values().fold(Features::NONE, |all, it| all.or(*it))
    }
}

impl Share {
    /// What can be asked of the upstream here: of a part, what the part needs.
    fn features(&self) -> Features {
        let all = features_of(&self.upstream);
        if self.is_whole {
            return all;
        }
        let has_prompts = self.offers.iter().any(|it| it.kind == EntryKind::Prompt);
        let has_resources = self.offers.iter().any(|it| it.kind != EntryKind::Prompt);
        let mut here = Features::NONE.with(Feature::Completions);
        if has_prompts {
            here = here.with(Feature::Prompts);
        }
        if has_resources {
            here = here.with(Feature::Resources).with(Feature::Subscribe);
        }
        all.and(here)
    }
}

/// What an upstream offers, in the eras in which it can be had.
pub(super) fn features_of(upstream: &UpstreamResource) -> Features {
    let features = Features::read(&upstream.capabilities);
    // The first revision had completion without a word for it.
    let is_first = upstream.protocol_version == "2024-11-05";
    let completes = features.has(Feature::Prompts) || features.has(Feature::Resources);
    let features =
        if is_first && completes { features.with(Feature::Completions) } else { features };
    match upstream.era {
        Some(Era::Modern) if features.has(Feature::TasksExtension) => {
            features.without_tasks().with(Feature::TasksExtension)
        }
        Some(Era::Modern) => features.without_tasks(),
        Some(Era::Legacy) => features.without(Feature::TasksExtension),
        None => features,
    }
}

/// Finds URIs and templates that an upstream of an earlier name has already.
fn marks(shares: &[Share]) -> AHashMap<Arc<str>, Arc<Uris>> {
    let mut ordered: Vec<_> = shares.iter().collect();
    ordered.sort_by(|a, b| a.upstream.name.cmp(&b.upstream.name));
    let mut taken: AHashSet<&str> = AHashSet::new();
    let mut markers: AHashSet<String> = AHashSet::new();
    let mut marks = AHashMap::new();
    for Share { upstream, offers, is_whole: _ } in ordered {
        let own = offers.iter().filter(|offer| offer.kind != EntryKind::Prompt);
        if own.clone().any(|it| taken.contains(&*it.original)) {
            let mut marker = uri::marker(upstream.name.as_str());
            if markers.contains(&marker) {
                marker = uri::marker(&format!("{}-{}", upstream.name, upstream.id));
            }
            let mut uris = Uris { marker: marker.as_str().into(), ..Uris::default() };
            for offer in own.clone() {
                let is_double = taken.contains(&*offer.original);
                if is_double {
                    uris.schemes.insert(uri::scheme(&offer.original).into());
                }
                let (texts, templates) = if is_double {
                    (&mut uris.marked, &mut uris.templates)
                } else {
                    (&mut uris.kept, &mut uris.kept_templates)
                };
                texts.insert(offer.original.clone());
                if offer.kind == EntryKind::ResourceTemplate {
                    templates.push(UriTemplate::read(&offer.original));
                }
            }
            markers.insert(marker);
            marks.insert(Arc::from(upstream.id.as_str()), Arc::new(uris));
        }
        taken.extend(own.map(|offer| &*offer.original));
    }
    marks
}
