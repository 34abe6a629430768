//! Finds out what an upstream shows only to clients with certain capabilities, by looking at
//! it as different clients.

use std::time::Duration;

use tokio::time::Instant;

use super::listing::Listing;
use crate::{
    mcp::Capabilities,
    upstream::{Active, Limits},
};

/// Sets of capabilities that are tried one by one, the small ones first.
const STEPS: [&[&str]; 6] = [
    &["sampling"],
    &["elicitation"],
    &["roots"],
    &["elicitation", "elicitation.url"],
    &["sampling", "sampling.tools"],
    &["extensions.io.modelcontextprotocol/tasks"],
];
/// What is left when none of them explains it.
const EVERYTHING: &[&str] = &["sampling", "elicitation", "roots"];
/// How long costly looks count while the shared child shows the same.
const REMEMBER: Duration = Duration::from_hours(1);

/// What a costly discovery saw.
#[derive(Debug)]
pub(crate) struct Remembered {
    rich: Listing,
    sorted: Listing,
    at: Instant,
}

/// One upstream, seen as anybody could see it.
pub(super) struct Everybody<'a> {
    pub(super) active: &'a Active,
    pub(super) limits: &'a Limits,
    /// Whether a look takes a process of its own.
    pub(super) is_costly: bool,
}

impl Everybody<'_> {
    /// All that anybody is shown, each with what a client needs for it. `rich` is what the
    /// most capable one sees; if the least capable one cannot be asked, it is for all.
    pub(super) async fn sort(&self, rich: Listing) -> Listing {
        if let Some(sorted) = self.remembered(&rich) {
            return sorted;
        }
        // The catalog itself must not be late because of this.
        let end = Instant::now() + self.limits.call_timeout / 2;
        let Some(mut sorted) = self.look(Capabilities::NONE, end).await else { return rich };
        let mut unexplained = rich.clone();
        unexplained.take(&sorted.keys());
        let mut is_whole = true;
        for needs in STEPS {
            if unexplained.is_empty() || !is_whole {
                break;
            }
            match self.look(Capabilities::of(needs), end).await {
                Some(shown) => sorted.add(unexplained.take(&shown.keys()), needs),
                None => is_whole = false,
            }
        }
        // Better hidden from some who could use it than shown to those who cannot.
        sorted.add(unexplained, EVERYTHING);
        if self.is_costly && is_whole {
            let remembered = Remembered { rich, sorted: sorted.clone(), at: Instant::now() };
            *self.active.remembered.lock() = Some(remembered);
        }
        sorted
    }

    fn remembered(&self, rich: &Listing) -> Option<Listing> {
        let remembered = self.active.remembered.lock();
        let fits = |it: &&Remembered| it.rich == *rich && it.at.elapsed() < REMEMBER;
        remembered.as_ref().filter(fits).map(|it| it.sorted.clone())
    }

    /// `None`: the upstream could not be seen so, or not in time.
    async fn look(&self, capabilities: Capabilities, end: Instant) -> Option<Listing> {
        let upstream = self.active.name();
        let looking = async {
            let lister = self.active.lister(capabilities).await?;
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
