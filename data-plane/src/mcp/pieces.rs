//! A message in one piece or in several, so that a large body goes on without a copy of it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{message::splice, object::Span};

/// What is longer is shared instead of copied.
const COPY_MAX: usize = 16 * 1024;

/// A JSON text, to be sent piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pieces {
    One(Bytes),
    Several(Box<Several>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Several {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    /// Bytes of all of them.
    length: usize,
}

impl Pieces {
    /// `parts` one after the other; those that are large are not copied.
    pub fn joined(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let mut parts = parts.into_iter().filter(|part| !part.is_empty()).peekable();
        let mut pieces = VecDeque::new();
        let mut small = BytesMut::new();
        while let Some(part) = parts.next() {
            if part.len() <= COPY_MAX {
                small.extend_from_slice(&part);
                if parts.peek().is_some_and(|next| next.len() <= COPY_MAX) {
                    continue;
                }
                pieces.push_back(std::mem::take(&mut small).freeze());
            } else {
                pieces.push_back(part);
            }
        }
        if pieces.len() <= 1 {
            return Self::One(pieces.pop_front().unwrap_or_default());
        }
        let length = pieces.iter().map(Bytes::len).sum();
        Self::Several(Box::new(Several { pieces, length }))
    }

    /// `body` with the bytes under each span replaced, as [`splice`] does it.
    pub fn spliced(body: &Bytes, mut edits: Vec<(Span, Vec<u8>)>) -> Self {
        if edits.is_empty() {
            return Self::One(body.clone());
        }
        if body.len() <= COPY_MAX {
            return Self::One(splice(body, &edits));
        }
        // Insertions come before what starts at the same place.
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        if !Self::shares_any(body, &edits) {
            return Self::One(splice(body, &edits));
        }
        let mut parts = Vec::with_capacity(edits.len() * 2 + 1);
        let mut at = 0;
        for (span, text) in edits {
            parts.extend([Span { start: at, end: span.start }.shared(body), text.into()]);
            at = span.end;
        }
        parts.push(Span { start: at, end: body.len() }.shared(body));
        Self::joined(parts)
    }

    /// Whether enough lies between two of these edits to share it.
    fn shares_any(body: &Bytes, edits: &[(Span, Vec<u8>)]) -> bool {
        let begins = edits.iter().map(|(span, _)| span.start).chain([body.len()]);
        let ends = [0].into_iter().chain(edits.iter().map(|(span, _)| span.end));
        begins.zip(ends).any(|(begin, end)| begin.saturating_sub(end) > COPY_MAX)
    }

    pub fn len(&self) -> usize {
        match self {
            Self::One(whole) => whole.len(),
            Self::Several(several) => several.length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next piece, which is no longer part of it; `None` after the last one.
    pub fn pop(&mut self) -> Option<Bytes> {
        match self {
            Self::One(whole) => Some(std::mem::take(whole)).filter(|whole| !whole.is_empty()),
            Self::Several(several) => {
                let piece = several.pieces.pop_front()?;
                several.length -= piece.len();
                Some(piece)
            }
        }
    }

    /// All of it in one piece.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::One(whole) => whole,
            Self::Several(several) => {
                let mut out = BytesMut::with_capacity(several.length);
                several.pieces.iter().for_each(|piece| out.extend_from_slice(piece));
                out.freeze()
            }
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        Self::One(whole)
    }
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_large_is_shared_and_what_is_small_is_joined() {
        let large = Bytes::from(vec![b'x'; COPY_MAX + 1]);
        let small = Bytes::from_static(b"ab");
        let mut pieces = Pieces::joined([small.clone(), small.clone(), large.clone(), small]);
        assert_eq!(pieces.len(), large.len() + 6);
        assert_eq!(pieces.pop().unwrap(), "abab");
        assert_eq!(pieces.pop().unwrap().as_ptr(), large.as_ptr());
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces.pop().unwrap(), "ab");
        assert!(pieces.is_empty() && pieces.pop().is_none());
        let whole = Pieces::joined([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        assert_eq!(whole, Pieces::One(Bytes::from_static(b"ab")));
    }

    proptest! {
        #[test]
        fn spliced_in_pieces_it_is_what_it_is_in_one(
            length in COPY_MAX - 2..COPY_MAX * 4,
            cuts in proptest::collection::vec((0..COPY_MAX * 4, 0..40_000_usize, 0..30_usize), 0..5),
        ) {
            let body = Bytes::from((b'a'..=b'z').cycle().take(length).collect::<Vec<_>>());
            let mut edits = Vec::new();
            let mut at = 0;
            for (skip, cut, text) in cuts {
                let start = (at + skip).min(length);
                let end = (start + cut).min(length);
                edits.push((Span { start, end }, vec![b'-'; text]));
                at = end;
            }
            let whole = splice(&body, &edits);
            edits.reverse();
            let pieces = Pieces::spliced(&body, edits.clone());
            prop_assert_eq!(pieces.len(), whole.len());
            if edits.iter().all(|(span, _)| span.start < span.end) {
                prop_assert_eq!(pieces.into_bytes(), whole);
            }
        }
    }
}
