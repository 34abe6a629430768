//! Finds out what an upstream shows only to clients with certain capabilities, by looking at
//! it as different clients.

use std::time::Duration;

use tokio::time::Instant;

use super::listing::Listing;
use crate::{
    mcp::Capabilities,
    upstream::{Active, CallFailure, Limits},
};

/// Sets of capabilities that are tried one by one, the small ones first.
const STEPS: [&[&str]; 5] = [
    &["sampling"],
    &["elicitation"],
    &["roots"],
    &["elicitation", "elicitation.url"],
    &["sampling", "sampling.tools"],
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
    /// most capable one sees. A look that fails explains nothing: then all is for all.
    pub(super) async fn sort(&self, rich: Listing) -> Listing {
        if let Some(sorted) = self.remembered(&rich) {
            return sorted;
        }
        let sorting = self.explain(rich.clone());
        // The catalog itself must not be late because of this.
        let sorted = match tokio::time::timeout(self.limits.call_timeout / 2, sorting).await {
            Ok(Ok(sorted)) => sorted,
            Ok(Err(failure)) => {
                let upstream = self.active.name();
                tracing::warn!(upstream, "cannot be seen as another client: it {failure}");
                return rich;
            }
            Err(_) => {
                let upstream = self.active.name();
                tracing::warn!(upstream, "takes too long to be seen as other clients");
                return rich;
            }
        };
        if self.is_costly {
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

    async fn explain(&self, mut unexplained: Listing) -> Result<Listing, CallFailure> {
        let mut sorted = self.look(Capabilities::NONE).await?;
        unexplained.take(&sorted.keys());
        for needs in STEPS {
            if unexplained.is_empty() {
                break;
            }
            let shown = self.look(Capabilities::of(needs)).await?;
            sorted.add(unexplained.take(&shown.keys()), needs);
        }
        sorted.add(unexplained, EVERYTHING);
        Ok(sorted)
    }

    async fn look(&self, capabilities: Capabilities) -> Result<Listing, CallFailure> {
        let lister = self.active.lister(capabilities).await?;
        Listing::read(&lister, self.active.name(), self.limits).await
    }
}
