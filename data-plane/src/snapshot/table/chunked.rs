//! A sequence of which another one that differs in some places shares nearly all.

use std::{cmp::Ordering, sync::Arc};

/// Items of one chunk: copied where one of them changes.
const CHUNK: usize = 64;

/// Chunks of items, all but the last full. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Chunked<T>(Arc<[Arc<[T]>]>);

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl<T> FromIterator<T> for Chunked<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter().peekable();
        let mut chunks: Vec<Arc<[T]>> = Vec::new();
        while items.peek().is_some() {
            chunks.push(items.by_ref().take(CHUNK).collect());
        }
        Self(chunks.into())
    }
}

impl<T> Chunked<T> {
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().flat_map(|chunk| chunk.iter())
    }

    /// Where the item is that compares as equal, if items are in the order of `compare`.
    pub(super) fn place(&self, compare: impl Fn(&T) -> Ordering) -> Option<usize> {
        let is_before = |chunk: &Arc<[T]>| chunk.last().is_some_and(|it| compare(it).is_lt());
        let chunk = self.0.partition_point(is_before);
        let within = self.0.get(chunk)?.binary_search_by(compare).ok()?;
        Some(chunk * CHUNK + within)
    }
}

impl<T: Clone> Chunked<T> {
    /// The same with other items in some places; `None` if one of these is not there.
    pub(super) fn with(&self, items: impl IntoIterator<Item = (usize, T)>) -> Option<Self> {
        let mut other = self.clone();
        // Copied as far as it is shared, so that each chunk is copied once.
        let chunks = Arc::make_mut(&mut other.0);
        for (index, item) in items {
            let chunk = Arc::make_mut(chunks.get_mut(index / CHUNK)?);
            *chunk.get_mut(index % CHUNK)? = item;
        }
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_differs_and_the_rest_is_shared() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let all: Vec<usize> = (0..count).collect();
            let chunked: Chunked<usize> = all.iter().copied().collect();
            assert!(chunked.iter().eq(&all));
            assert_eq!((chunked.get(count), chunked.with([(count, 0)]).is_some()), (None, false));
            for index in all.iter().copied() {
                assert_eq!(chunked.place(|it| it.cmp(&index)), Some(index));
                let other = chunked.with([(index, 1_000_000)]).unwrap();
                let differs = |it: &usize| other.get(*it) != chunked.get(*it);
                assert_eq!(all.iter().copied().filter(differs).collect::<Vec<_>>(), [index]);
                let shared = other.0.iter().zip(chunked.0.iter());
                let shared = shared.filter(|(one, two)| Arc::ptr_eq(one, two)).count();
                assert_eq!(shared + 1, chunked.0.len());
            }
            assert_eq!(chunked.place(|it| it.cmp(&count)), None);
            let all_others = chunked.with((0..count).map(|index| (index, index + 1))).unwrap();
            assert!(all_others.iter().copied().eq(1..=count) && chunked.iter().eq(&all));
        }
    }
}
