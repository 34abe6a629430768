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

/// What is known of a shared process when what it no longer shows is forgotten.
const KNOWN_MAX: usize = 20_000;

/// Names of capabilities.
type Needs = &'static [&'static str];

/// What clients need for what is listed.
type Verdicts = BTreeMap<Key, Needs>;

/// Whether what is remembered has to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Recent,
    Old,
}

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
    Shared(Verdicts),
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
    Shared {
        /// Whether calls were made on it before.
        is_used: bool,
    },
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
            Source::Shared { .. } => Box::pin(self.sort_shared(rich, end)).await,
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
        let known = match self.remembered_needs() {
            Some((known, Age::Recent)) if rich.keys().iter().all(|it| known.contains_key(it)) => {
                return needing(rich, &known);
            }
            known => known.map(|(known, _age)| known),
        };
        // What another proxy saw of it is not known here, and is all that was there before.
        let unseen = Verdicts::new();
        let is_used = matches!(self.source, Source::Shared { is_used: true });
        let before = known.as_ref().or(is_used.then_some(&unseen));
        match (self.classify(&rich, before, end).await, known) {
            (None, None) => rich,
            (None, Some(known)) => needing(rich, &known),
            (Some(found), known) => {
                let needs = both(known.unwrap_or_default(), found, &rich);
                self.remember(Saw::Shared(needs.clone()));
                needing(rich, &needs)
            }
        }
    }

    /// What clients need for what the shared process shows, as far as that can be known; `None`
    /// if nobody else could look.
    async fn classify(
        &self,
        rich: &Listing,
        known: Option<&Verdicts>,
        end: Instant,
    ) -> Option<Verdicts> {
        let looks = (self.look(Capabilities::NONE, end), self.look(Capabilities::all(), end));
        let (least, most) = tokio::join!(looks.0, looks.1);
        let (mut needs, mut gated) = judge(rich, &least?, most.as_ref(), known);
        for step in STEPS {
            if gated.is_empty() {
                return Some(needs);
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

    /// What was known last of the shared process. However old, it says that a process has been
    /// seen before.
    fn remembered_needs(&self) -> Option<(Verdicts, Age)> {
        match &self.active.remembered.lock().as_ref()? {
            Remembered { at, saw: Saw::Shared(needs) } => {
                let age = if at.elapsed() < REMEMBER { Age::Recent } else { Age::Old };
                Some((needs.clone(), age))
            }
            Remembered { at: _, saw: Saw::Each { .. } } => None,
        }
    }

    /// `None`: the upstream could not be seen so, or not in time.
    async fn look(&self, capabilities: Capabilities, end: Instant) -> Option<Listing> {
        let upstream = self.active.name();
        let looking = async {
            let lister = match self.source {
                Source::Session | Source::Process => self.active.lister(capabilities).await?,
                Source::Shared { .. } => self.active.glimpse(capabilities).await?,
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

/// What was known and what was found. What was seen before may come back, and is forgotten only
/// when there is too much of it.
fn both(mut known: Verdicts, found: Verdicts, rich: &Listing) -> Verdicts {
    if known.len() >= KNOWN_MAX {
        let shown = rich.keys();
        known.retain(|key, _| shown.contains(key));
    }
    known.extend(found);
    known
}

fn needing(rich: Listing, needs: &Verdicts) -> Listing {
    rich.needing(|key| needs.get(key).copied().unwrap_or(EVERYTHING))
}

/// What can be said of what a shared process shows (`rich`), once a process of its own was seen by
/// the least capable client and one by the `most` capable; and what some capability gates. Without
/// what was `known` before nothing can have come about by use.
fn judge(
    rich: &Listing,
    least: &Listing,
    most: Option<&Listing>,
    known: Option<&Verdicts>,
) -> (Verdicts, Listing) {
    let mut unexplained = rich.clone();
    let for_all = unexplained.take(&least.keys()).keys();
    let mut needs: Verdicts = for_all.into_iter().map(|key| (key, NOTHING)).collect();
    let Some(most) = most else { return (needs, Listing::default()) };
    let gated = unexplained.take(&most.keys());
    if let Some(known) = known {
        let by_use = unexplained.keys().into_iter().filter(|key| !known.contains_key(key));
        needs.extend(by_use.map(|key| (key, NOTHING)));
    }
    (needs, gated)
}

#[cfg(test)]
mod tests {
    use proto::CatalogTool;

    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let tool = |name: &&str| CatalogTool {
            name: (*name).to_owned(),
            definition: "{}".to_owned(),
            needs_client_capabilities: Vec::new(),
        };
        Listing { tools: names.iter().map(tool).collect(), entries: Vec::new() }
    }

    fn key(name: &str) -> Key {
        (None, name.to_owned())
    }

    fn verdicts(of: &[(&str, Needs)]) -> Verdicts {
        of.iter().map(|(name, needs)| (key(name), *needs)).collect()
    }

    #[test]
    fn what_came_about_by_use_is_for_all_once_a_process_has_been_seen() {
        let (rich, least, most) = (listing(&["a", "b", "new"]), listing(&["a"]), listing(&["b"]));
        let (needs, gated) = judge(&rich, &least, Some(&most), None);
        assert_eq!(needs, verdicts(&[("a", NOTHING)]), "nothing is known of `new`");
        assert_eq!(gated, listing(&["b"]));
        let known = verdicts(&[("a", NOTHING), ("b", &["sampling"])]);
        let (needs, gated) = judge(&rich, &least, Some(&most), Some(&known));
        assert_eq!(needs, verdicts(&[("a", NOTHING), ("new", NOTHING)]));
        assert_eq!(gated, listing(&["b"]));
    }

    #[test]
    fn what_is_shown_is_known_however_much_was_seen() {
        let mut known: Verdicts =
            (0..KNOWN_MAX).map(|number| (key(&format!("n{number}")), NOTHING)).collect();
        known.insert(key("new"), NOTHING);
        let rich = listing(&["a", "new"]);
        let needs = both(known, verdicts(&[("a", &["sampling"])]), &rich);
        assert_eq!(needs, verdicts(&[("a", &["sampling"]), ("new", NOTHING)]));
    }

    #[test]
    fn what_was_gated_stays_so_when_no_new_process_shows_it() {
        let (rich, none) = (listing(&["a", "b"]), listing(&[]));
        let known = verdicts(&[("b", &["sampling"])]);
        let (needs, gated) = judge(&rich, &listing(&["a"]), Some(&none), Some(&known));
        assert_eq!(needs, verdicts(&[("a", NOTHING)]));
        assert!(gated.is_empty());
    }

    #[test]
    fn without_a_look_as_the_most_capable_client_only_what_is_for_all_is_known() {
        let known = verdicts(&[]);
        let (rich, least) = (listing(&["a", "b"]), listing(&["a"]));
        let (needs, gated) = judge(&rich, &least, None, Some(&known));
        assert_eq!(needs, verdicts(&[("a", NOTHING)]));
        assert!(gated.is_empty());
    }
}
