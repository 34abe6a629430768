//! Values by name, of which another map that differs in some names shares nearly all.

use std::sync::Arc;

use ahash::{AHashMap, RandomState};

/// Names of one shard, about: copied where one of them changes.
const NAMES: usize = 64;
/// A shard with more of them than this makes for more shards, unless the others have few.
const NAMES_MAX: usize = 4 * NAMES;
/// Tells the shard of a name, and is the same in each process of one build, so that what a change
/// takes can be counted. Whoever chooses names to crowd a shard makes it a map like any other:
/// those have seeds of their own.
static SHARD: RandomState = RandomState::with_seeds(1, 2, 3, 4);

type Shard<V> = AHashMap<Box<str>, V>;

/// Shards of names, so many that each is small. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Sharded<V> {
    shards: Arc<[Arc<Shard<V>>]>,
}

impl<V> Default for Sharded<V> {
    fn default() -> Self {
        Self::for_names(0)
    }
}

impl<V> Sharded<V> {
    /// Empty, to have about so many names.
    pub(super) fn for_names(count: usize) -> Self {
        let shards = (0..count.div_ceil(NAMES).max(1)).map(|_| Arc::default()).collect();
        Self { shards }
    }

    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.shards.get(self.shard_of(name))?.get(name)
    }

    fn shard_of(&self, name: &str) -> usize {
        let hash = usize::try_from(SHARD.hash_one(name) >> 32).unwrap_or_default();
        hash.checked_rem(self.shards.len()).unwrap_or_default()
    }
}

impl<V: Clone> Sharded<V> {
    /// What was there before, if anything.
    pub(super) fn insert(&mut self, name: &str, value: V) -> Option<V> {
        let shard = self.shard(name)?;
        let before = shard.insert(name.into(), value);
        // A shard that is crowded is looked at now and then, since that takes a look at all.
        if shard.len() > NAMES_MAX && shard.len() % NAMES == 1 {
            self.grow();
        }
        before
    }

    /// Has room for twice as many names, unless there is room and names were chosen to crowd.
    fn grow(&mut self) {
        let count: usize = self.shards.iter().map(|shard| shard.len()).sum();
        if count <= NAMES * self.shards.len() {
            return;
        }
        let mut other = Self::for_names(2 * count);
        for (name, value) in self.shards.iter().flat_map(|shard| shard.iter()) {
            if let Some(shard) = other.shard(name) {
                shard.insert(name.clone(), value.clone());
            }
        }
        *self = other;
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        self.shard(name)?.remove(name)
    }

    /// Copied as far as it is shared.
    fn shard(&mut self, name: &str) -> Option<&mut Shard<V>> {
        let shard = self.shard_of(name);
        Arc::make_mut(&mut self.shards).get_mut(shard).map(Arc::make_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_differs_and_the_rest_is_shared() {
        for count in [0, 1, NAMES, 10 * NAMES] {
            let names: Vec<_> = (0..count).map(|number| format!("name {number}")).collect();
            let mut all = Sharded::for_names(count);
            for (number, name) in names.iter().enumerate() {
                assert_eq!(all.insert(name, number), None);
            }
            let is_whole = |map: &Sharded<usize>| {
                names.iter().enumerate().all(|(number, name)| map.get(name) == Some(&number))
            };
            assert!(is_whole(&all));
            let mut other = all.clone();
            assert_eq!(other.insert("new", 7), None);
            assert_eq!((other.get("new"), all.get("new")), (Some(&7), None));
            let differing = other.shards.iter().zip(all.shards.iter());
            let differing = differing.filter(|(one, two)| !Arc::ptr_eq(one, two)).count();
            assert_eq!((differing, is_whole(&other)), (1, true));
            assert_eq!((other.remove("new"), other.remove("new")), (Some(7), None));
            assert!(is_whole(&other));
            if let Some(name) = names.last() {
                assert_eq!(other.insert(name, 9), Some(count - 1));
                assert_eq!(other.remove(name), Some(9));
                assert_eq!(other.get(name), None);
            }
            assert!(is_whole(&all));
        }
    }

    #[test]
    fn there_are_more_shards_when_there_are_more_names() {
        let mut all = Sharded::default();
        for number in 0..100 * NAMES {
            assert_eq!(all.insert(&number.to_string(), number), None);
            assert!(all.shards.iter().all(|shard| shard.len() <= NAMES_MAX));
        }
        assert!(all.shards.len() >= 25);
        assert!((0..100 * NAMES).all(|number| all.get(&number.to_string()) == Some(&number)));
    }

    #[test]
    fn names_that_were_chosen_to_crowd_a_shard_make_for_no_more_of_them() {
        let mut all = Sharded::for_names(100 * NAMES);
        let names = (0..).map(|number| number.to_string());
        let crowd: Vec<_> =
            names.filter(|name| all.shard_of(name) == 0).take(3 * NAMES_MAX).collect();
        for name in &crowd {
            all.insert(name, ());
        }
        assert_eq!(all.shards.len(), 100);
        assert!(crowd.iter().all(|name| all.get(name).is_some()));
    }
}
