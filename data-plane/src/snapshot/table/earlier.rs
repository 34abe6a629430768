//! What an earlier configuration had, looked up in the order of its keys.

use std::{cmp::Ordering, iter::Peekable, sync::Arc};

/// What resources are ordered by: kind, owner, id.
pub(super) type Key<'k> = [&'k str; 3];

/// A walk through what was there, beside one through what is there now.
pub(super) struct Earlier<I: Iterator, T> {
    rest: Peekable<I>,
    key: fn(&T) -> Key<'_>,
}

impl<'e, T: 'e, I: Iterator<Item = &'e Arc<T>>> Earlier<I, T> {
    /// `all` is in the order of `key`.
    pub(super) fn new(all: I, key: fn(&T) -> Key<'_>) -> Self {
        Self { rest: all.peekable(), key }
    }

    /// What had this key. Keys have to be asked for in their order, else nothing is found.
    pub(super) fn of(&mut self, key: Key<'_>) -> Option<&'e Arc<T>> {
        loop {
            match (self.key)(self.rest.peek()?).cmp(&key) {
                Ordering::Less => self.rest.next(),
                Ordering::Equal => return self.rest.next(),
                Ordering::Greater => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_found_and_nothing_else() {
        let all: Vec<Arc<String>> = ["b", "c", "e"].map(|it| Arc::new(it.to_owned())).into();
        let mut earlier = Earlier::new(all.iter(), |it: &String| ["tool", "", it]);
        let mut found = |kind, id| earlier.of([kind, "", id]).map(|it| it.as_str());
        assert_eq!(found("entry", "b"), None);
        let found = ["a", "b", "d", "e", "f"].map(|id| found("tool", id));
        assert_eq!(found, [None, Some("b"), None, Some("e"), None]);
    }
}
