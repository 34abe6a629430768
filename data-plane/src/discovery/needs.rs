//! Finds out what an upstream shows only to clients with certain capabilities, by looking at
//! it as different clients.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::listing::{Key, Listing};
use crate::{
    mcp::Capabilities,
    upstream::{Active, Limits},
};

/// Sets of capabilities that are tried one by one, the small ones first.
const STEPS: [Needs; 6] = [
    &["sampling"],
    &["elicitation"],
    &["roots"],
    &["elicitation", "elicitation.url"],
    &["sampling", "sampling.tools"],
    &["extensions.io.modelcontextprotocol/tasks"],
];
const NOTHING: Needs = &[];
/// What is left when none of them explains it. Better hidden from some who could use it than shown
/// to those who cannot.
const EVERYTHING: Needs = &["sampling", "elicitation", "roots"];
/// How long costly looks count.
const REMEMBER: Duration = Duration::from_hours(1);

/// What is known of a shared process when nothing more is added to it.
const KNOWN_MAX: usize = 20_000;

/// Names of capabilities.
type Needs = &'static [&'static str];

/// What costly looks saw.
#[derive(Debug)]
pub(crate) struct Remembered {
    at: Instant,
    saw: Saw,
}

#[derive(Debug)]
enum Saw {
    /// Of processes that are each client's own: what they show, all together.
    Each { rich: Listing, sorted: Listing },
    /// Of the process that all share: what clients need for what it shows.
    Shared(BTreeMap<Key, Needs>),
}

/// Who an upstream's listings come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A session of its own for each look.
    Session,
    /// A process of its own for each look.
    Process,
    /// One process, which takes everybody's calls and was told of all capabilities. Looks at it as
    /// another client take processes of their own.
    Shared,
}

/// One upstream, seen as anybody could see it.
pub(super) struct Everybody<'a> {
    pub(super) active: &'a Active,
    pub(super) limits: &'a Limits,
    pub(super) source: Source,
}

impl Everybody<'_> {
    /// All that anybody is shown, each with what a client needs for it. `rich` is what the
    /// most capable one sees; if the least capable one cannot be asked, it is for all.
    pub(super) async fn sort(&self, rich: Listing) -> Listing {
        // The catalog itself must not be late because of this.
        let end = Instant::now() + self.limits.call_timeout / 2;
        match self.source {
            Source::Session => self.sort_looks(rich, end).await.0,
            Source::Process => {
                if let Some(sorted) = self.remembered_looks(&rich) {
                    return sorted;
                }
                let (sorted, is_whole) = self.sort_looks(rich.clone(), end).await;
                if is_whole {
                    self.remember(Saw::Each { rich, sorted: sorted.clone() });
                }
                sorted
            }
            // Boxed, for it looks as two at once.
            Source::Shared => Box::pin(self.sort_shared(rich, end)).await,
        }
    }

    /// What all looks show together, and whether there were all that it takes.
    async fn sort_looks(&self, rich: Listing, end: Instant) -> (Listing, bool) {
        let Some(mut sorted) = self.look(Capabilities::NONE, end).await else {
            return (rich, false);
        };
        let mut unexplained = rich;
        unexplained.take(&sorted.keys());
        let is_whole = self.explain(&mut unexplained, &mut sorted, end).await;
        sorted.add(unexplained, EVERYTHING);
        (sorted, is_whole)
    }

    /// Moves what looks with few capabilities explain from one listing to the other; false if
    /// not all could be had.
    async fn explain(&self, unexplained: &mut Listing, sorted: &mut Listing, end: Instant) -> bool {
        for needs in STEPS {
            if unexplained.is_empty() {
                return true;
            }
            let Some(shown) = self.look(Capabilities::of(needs), end).await else { return false };
            sorted.add(unexplained.take(&shown.keys()), needs);
        }
        true
    }

    /// What the shared process shows, and nothing else, is what can be called. Other processes
    /// only tell what of it is for whom: what none of them shows came about by what was done
    /// with the shared one, and needs nothing.
    async fn sort_shared(&self, rich: Listing, end: Instant) -> Listing {
        let known = self.remembered_needs();
        let needs = match known {
            Some(known) if rich.keys().iter().all(|key| known.contains_key(key)) => known,
            known => {
                let found = self.classify(&rich, known.as_ref(), end).await;
                let Some(mut found) = found else { return rich };
                // What was seen before may come back.
                found.extend(known.filter(|known| known.len() < KNOWN_MAX).into_iter().flatten());
                self.remember(Saw::Shared(found.clone()));
                found
            }
        };
        rich.needing(|key| needs.get(key).copied().unwrap_or(EVERYTHING))
    }

    /// What clients need for what the shared process shows, as far as that can be known; `None`
    /// if nobody else could look. While nothing is `known` nothing can have come about by use.
    async fn classify(
        &self,
        rich: &Listing,
        known: Option<&BTreeMap<Key, Needs>>,
        end: Instant,
    ) -> Option<BTreeMap<Key, Needs>> {
        let looks = (self.look(Capabilities::NONE, end), self.look(Capabilities::all(), end));
        let (least, most) = tokio::join!(looks.0, looks.1);
        let least = least?;
        let mut unexplained = rich.clone();
        let for_all = unexplained.take(&least.keys()).keys();
        let mut needs: BTreeMap<_, _> = for_all.into_iter().map(|key| (key, NOTHING)).collect();
        let Some(most) = most else { return Some(needs) };
        let mut gated = unexplained.take(&most.keys());
        if known.is_some() {
            needs.extend(unexplained.keys().into_iter().map(|key| (key, NOTHING)));
        }
        for step in STEPS {
            if gated.is_empty() {
                break;
            }
            let Some(shown) = self.look(Capabilities::of(step), end).await else {
                return Some(needs);
            };
            let explained = gated.take(&shown.keys()).keys();
            needs.extend(explained.into_iter().map(|key| (key, step)));
        }
        needs.extend(gated.keys().into_iter().map(|key| (key, EVERYTHING)));
        Some(needs)
    }

    fn remember(&self, saw: Saw) {
        *self.active.remembered.lock() = Some(Remembered { at: Instant::now(), saw });
    }

    fn remembered_looks(&self, now: &Listing) -> Option<Listing> {
        match &self.active.remembered.lock().as_ref()? {
            Remembered { at, saw: Saw::Each { rich, sorted } } if at.elapsed() < REMEMBER => {
                (rich == now).then(|| sorted.clone())
            }
            Remembered { .. } => None,
        }
    }

    fn remembered_needs(&self) -> Option<BTreeMap<Key, Needs>> {
        match &self.active.remembered.lock().as_ref()? {
            Remembered { at, saw: Saw::Shared(needs) } if at.elapsed() < REMEMBER => {
                Some(needs.clone())
            }
            Remembered { .. } => None,
        }
    }

    /// `None`: the upstream could not be seen so, or not in time.
    async fn look(&self, capabilities: Capabilities, end: Instant) -> Option<Listing> {
        let upstream = self.active.name();
        let looking = async {
            let lister = match self.source {
                Source::Session | Source::Process => self.active.lister(capabilities).await?,
                Source::Shared => self.active.glimpse(capabilities).await?,
            };
            Listing::read(&lister, upstream, self.limits).await
        };
        match tokio::time::timeout_at(end, looking).await {
            Ok(Ok(listing)) => Some(listing),
            Ok(Err(failure)) => {
                tracing::warn!(upstream, "cannot be seen as another client: it {failure}");
                None
            }
            Err(_) => {
                tracing::warn!(upstream, "takes too long to be seen as other clients");
                None
            }
        }
    }
}
