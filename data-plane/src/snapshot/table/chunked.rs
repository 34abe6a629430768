//! A sequence of which another one that differs in some places shares nearly all.

use std::{cmp::Ordering, sync::Arc};

/// Items of one chunk, about: copied where one of them changes.
const CHUNK: usize = 64;
/// A chunk with more of them becomes two.
const CHUNK_MAX: usize = 2 * CHUNK;

/// Chunks of items, none of them empty. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Chunked<T>(Arc<Vec<Arc<[T]>>>);

/// Where an item is, until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    chunk: usize,
    within: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self(Arc::default())
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
    pub(super) fn get(&self, place: Place) -> Option<&T> {
        self.0.get(place.chunk)?.get(place.within)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().flat_map(|chunk| chunk.iter())
    }

    /// Where the item is that compares as equal, or else would be, if items are in the order of
    /// `compare`.
    pub(super) fn search(&self, compare: impl Fn(&T) -> Ordering) -> Result<Place, Place> {
        let is_before = |chunk: &Arc<[T]>| chunk.last().is_some_and(|it| compare(it).is_lt());
        let chunk = self.0.partition_point(is_before);
        // What comes after all others belongs to them, if there are any.
        let chunk = chunk.min(self.0.len().saturating_sub(1));
        let place = |within| Place { chunk, within };
        let items: &[T] = self.0.get(chunk).map_or(&[], |items| items);
        items.binary_search_by(compare).map(place).map_err(place)
    }

    /// Where the first item is of which this is true, in whatever order they are.
    pub(super) fn find(&self, is: impl Fn(&T) -> bool) -> Option<Place> {
        let mut chunks = self.0.iter().enumerate();
        chunks.find_map(|(chunk, items)| {
            items.iter().position(&is).map(|within| Place { chunk, within })
        })
    }
}

impl<T: Clone> Chunked<T> {
    /// Another item in the place of one. `None` if there is no such place.
    pub(super) fn replace(&mut self, Place { chunk, within }: Place, item: T) -> Option<()> {
        let chunk = Arc::make_mut(Arc::make_mut(&mut self.0).get_mut(chunk)?);
        *chunk.get_mut(within)? = item;
        Some(())
    }

    /// One item more, at a place that [`Self::search`] told. `None` if there is no such place.
    pub(super) fn insert(&mut self, Place { chunk, within }: Place, item: T) -> Option<()> {
        let old: &[T] = match self.0.get(chunk) {
            Some(items) => items,
            // There are none yet.
            None if chunk == 0 => &[],
            None => return None,
        };
        let (before, after) = old.split_at_checked(within)?;
        let items = [before, &[item], after].concat();
        let chunks = Arc::make_mut(&mut self.0);
        let end = chunks.len().min(chunk + 1);
        if items.len() > CHUNK_MAX {
            let (one, other) = items.split_at(items.len() / 2);
            chunks.splice(chunk..end, [one.into(), other.into()]);
        } else {
            chunks.splice(chunk..end, [items.into()]);
        }
        Some(())
    }

    /// One item less. `None` if there is no such place.
    pub(super) fn remove(&mut self, Place { chunk, within }: Place) -> Option<()> {
        let mut items = self.0.get(chunk)?.to_vec();
        if within >= items.len() {
            return None;
        }
        items.remove(within);
        let left = (!items.is_empty()).then(|| items.into());
        Arc::make_mut(&mut self.0).splice(chunk..=chunk, left);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of one that are not those of another.
    fn own(one: &Chunked<usize>, other: &Chunked<usize>) -> usize {
        let is_shared = |it: &&Arc<[usize]>| other.0.iter().any(|other| Arc::ptr_eq(it, other));
        one.0.iter().filter(|it| !is_shared(it)).count()
    }

    fn place(items: &Chunked<usize>, item: usize) -> Result<Place, Place> {
        items.search(|it| it.cmp(&item))
    }

    #[test]
    fn one_item_differs_and_the_rest_is_shared() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            // Even ones, so that others have their places between them.
            let all: Vec<usize> = (0..count).map(|it| 2 * it).collect();
            let chunked: Chunked<usize> = all.iter().copied().collect();
            assert!(chunked.iter().eq(&all));
            for (index, item) in all.iter().copied().enumerate() {
                let at = place(&chunked, item).unwrap();
                assert_eq!(
                    (chunked.get(at), chunked.find(|it| *it == item)),
                    (Some(&item), Some(at))
                );
                let mut other = chunked.clone();
                other.replace(at, item + 1).unwrap();
                let mut expected = all.clone();
                expected[index] = item + 1;
                assert!(other.iter().eq(&expected) && own(&other, &chunked) == 1);
                let mut other = chunked.clone();
                other.remove(at).unwrap();
                expected.remove(index);
                assert!(other.iter().eq(&expected) && own(&other, &chunked) <= 1);
            }
            for item in (0..=count).map(|it| (2 * it).saturating_sub(1)).skip(1) {
                let mut other = chunked.clone();
                other.insert(place(&chunked, item).unwrap_err(), item).unwrap();
                let mut expected = all.clone();
                expected.push(item);
                expected.sort_unstable();
                assert!(other.iter().eq(&expected) && own(&other, &chunked) == 1);
            }
            assert!(chunked.iter().eq(&all));
            let mut other = chunked.clone();
            for (chunk, within) in [(0, CHUNK + 1), (other.0.len() + 1, 0)] {
                let nowhere = Place { chunk, within };
                assert_eq!((other.replace(nowhere, 0), other.remove(nowhere)), (None, None));
                assert_eq!(other.insert(nowhere, 0), None);
                assert_eq!(other.get(nowhere), None);
            }
            assert!(other.iter().eq(&all));
        }
    }

    #[test]
    fn chunks_stay_small_and_none_is_empty() {
        let count = 5 * CHUNK_MAX;
        for reversed in [false, true] {
            let mut items = Chunked::default();
            for number in 0..count {
                let item = if reversed { count - number } else { number };
                items.insert(place(&items, item).unwrap_err(), item).unwrap();
                assert!(items.0.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
            }
            assert!(items.iter().is_sorted() && items.iter().count() == count);
            let all: Vec<_> = items.iter().copied().collect();
            for item in all {
                items.remove(place(&items, item).unwrap()).unwrap();
                assert!(items.0.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
            }
            assert!(items.0.is_empty());
        }
    }
}
