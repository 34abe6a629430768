//! List results of one endpoint, rendered when somebody first asks for them.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use ahash::RandomState;
use arc_swap::ArcSwap;
use bytes::Bytes;
use proto::Era;

use crate::mcp::{
    Capabilities,
    list::{self, Definition, ListKind},
};

/// One line of a list.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// The name, URI or template it is shown under.
    pub(super) name: &'a str,
    pub(super) definition: &'a Definition,
    pub(super) needs: Capabilities,
}

impl<'a> Item<'a> {
    /// The result of a list method.
    pub(super) fn render(
        items: impl Iterator<Item = Self>,
        (kind, era): (ListKind, Era),
        ttl_ms: u32,
        next_cursor: Option<&str>,
    ) -> Bytes {
        let items = items.map(|item: Item<'a>| (item.name, item.definition));
        list::result(kind, items, (era, ttl_ms), next_cursor)
    }
}

/// What decides a result, the endpoint apart.
pub(super) type Key = (ListKind, Era, Capabilities);

/// Results and fingerprints by what decides them; a handful at most.
#[derive(Debug, Default)]
pub(super) struct Lists {
    results: ArcSwap<Vec<(Key, Bytes)>>,
    fingerprints: ArcSwap<Vec<((ListKind, Capabilities), u64)>>,
}

impl Lists {
    /// All items in one page.
    pub(super) fn whole<'a, I: Iterator<Item = Item<'a>>>(
        &self,
        key: Key,
        ttl_ms: u32,
        items: impl FnOnce() -> I,
    ) -> Bytes {
        let (kind, era, _) = key;
        look_up(&self.results, key, || Item::render(items(), (kind, era), ttl_ms, None))
    }

    /// A hash of what is shown; the same in each process of one build.
    pub(super) fn fingerprint<'a, I: Iterator<Item = Item<'a>>>(
        &self,
        key: (ListKind, Capabilities),
        items: impl FnOnce() -> I,
    ) -> u64 {
        look_up(&self.fingerprints, key, || {
            let mut hasher = RandomState::with_seeds(1, 2, 3, 4).build_hasher();
            for item in items() {
                (item.name, item.definition.text()).hash(&mut hasher);
            }
            hasher.finish()
        })
    }
}

/// Two may compute at once; then one value is kept twice and both are right.
fn look_up<K: Copy + PartialEq, V: Clone>(
    kept: &ArcSwap<Vec<(K, V)>>,
    key: K,
    compute: impl FnOnce() -> V,
) -> V {
    if let Some((_, value)) = kept.load().iter().find(|(known, _)| *known == key) {
        return value.clone();
    }
    let value = compute();
    kept.rcu(|kept| kept.iter().cloned().chain([(key, value.clone())]).collect::<Vec<_>>());
    value
}
