//! What the upstreams of one endpoint declare beyond what we know.

use super::shelf::Share;
use crate::mcp::beyond::Beyond;

/// Extensions and all else that is unknown, of upstreams that are here as a whole.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) beyond: Beyond,
}

impl Extensions {
    /// The shares are in the order of the view; `is_only` tells whether nothing here is of
    /// another upstream.
    pub(super) fn new(shares: &[Share], is_only: impl Fn(&str) -> bool) -> Self {
        let whole: Vec<_> = shares.iter().filter(|it| it.is_whole).map(|it| &it.upstream).collect();
        let beyond = match &*whole {
            [one] if is_only(&one.id) => Beyond::of_one(&one.capabilities),
            all => Beyond::of_several(all.iter().map(|it| &*it.capabilities)),
        };
        Self { beyond }
    }
}
