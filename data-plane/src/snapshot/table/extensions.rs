//! What the upstreams of one endpoint declare beyond what we know, and who is meant by a method
//! of it.

use std::sync::Arc;

use super::shelf::Share;
use crate::mcp::{
    beyond::{Beyond, identifiers},
    extension,
};

/// Extensions and all else that is unknown, of upstreams that are here as a whole.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) beyond: Beyond,
    /// The upstream that alone is here.
    pub(super) only: Option<Arc<str>>,
    /// Who declares what.
    declared: Vec<(Arc<str>, Vec<Box<str>>)>,
}

impl Extensions {
    /// The shares are in the order of the view; `is_only` tells whether nothing here is of
    /// another upstream.
    pub(super) fn new(shares: &[Share], is_only: impl Fn(&str) -> bool) -> Self {
        let whole: Vec<_> = shares.iter().filter(|it| it.is_whole).map(|it| &it.upstream).collect();
        let (beyond, only) = match &*whole {
            [one] if is_only(&one.id) => {
                (Beyond::of_one(&one.capabilities), Some(Arc::from(one.id.as_str())))
            }
            all => (Beyond::of_several(all.iter().map(|it| &*it.capabilities)), None),
        };
        let declared =
            whole.iter().map(|it| (it.id.as_str().into(), identifiers(&it.capabilities)));
        Self { beyond, only, declared: declared.filter(|(_, all)| !all.is_empty()).collect() }
    }

    /// The upstream that alone can be meant by a method of an extension.
    pub(super) fn upstream_of(&self, method: &str) -> Option<&Arc<str>> {
        if !extension::is_declared_only(method)
            && let Some(only) = &self.only
        {
            return Some(only);
        }
        let owns = |all: &[Box<str>]| all.iter().any(|it| extension::owns(it, method));
        let mut owners = self.declared.iter().filter(|(_, all)| owns(all)).map(|(id, _)| id);
        owners.next().filter(|_| owners.next().is_none())
    }
}
