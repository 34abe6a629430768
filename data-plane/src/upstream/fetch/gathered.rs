//! What a body is gathered in whose frames come one by one.

use bytes::BytesMut;
use bytestring::ByteString;
use simdutf8::compat;

use crate::{
    mcp::{Span, object::LongStrings},
    upstream::failure::CallFailure,
};

/// Takes the frames of a body.
pub(super) trait Gathered {
    /// Makes room, so that nothing is moved as it grows.
    fn reserve(&mut self, bytes: usize);
    fn add(&mut self, frame: &[u8]) -> Result<(), CallFailure>;
    /// In bytes.
    fn len(&self) -> usize;
}

impl Gathered for BytesMut {
    fn reserve(&mut self, bytes: usize) {
        Self::reserve(self, bytes);
    }

    fn add(&mut self, frame: &[u8]) -> Result<(), CallFailure> {
        self.extend_from_slice(frame);
        Ok(())
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// Text of which each frame is checked while it is in the caches of the processor, where a large
/// text as a whole is not.
#[derive(Default)]
pub(super) struct Text {
    checked: String,
    /// The beginning of a character whose rest is to come.
    cut: Vec<u8>,
    strings: LongStrings,
}

impl Gathered for Text {
    fn reserve(&mut self, bytes: usize) {
        self.checked.reserve(bytes);
    }

    fn add(&mut self, mut frame: &[u8]) -> Result<(), CallFailure> {
        while let (false, Some((next, rest))) = (self.cut.is_empty(), frame.split_first()) {
            self.cut.push(*next);
            frame = rest;
            let cut = std::mem::take(&mut self.cut);
            self.take(&cut)?;
        }
        self.take(frame)?;
        self.strings.read(self.checked.as_bytes());
        Ok(())
    }

    fn len(&self) -> usize {
        self.checked.len() + self.cut.len()
    }
}

impl Text {
    fn take(&mut self, bytes: &[u8]) -> Result<(), CallFailure> {
        match compat::from_utf8(bytes) {
            Ok(text) => self.checked.push_str(text),
            Err(error) if error.error_len().is_some() => return Err(no_text()),
            Err(error) => {
                let (whole, cut) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
                self.checked.push_str(compat::from_utf8(whole).unwrap_or_default());
                self.cut.extend_from_slice(cut);
            }
        }
        Ok(())
    }

    /// All of it, and the long strings of it that were found.
    pub(super) fn end(self) -> Result<(ByteString, Vec<Span>), CallFailure> {
        if !self.cut.is_empty() {
            return Err(no_text());
        }
        let known = self.strings.finish(self.checked.as_bytes());
        Ok((self.checked.into(), known))
    }
}

/// What it means for an answer that it is no UTF-8.
pub(super) fn no_text() -> CallFailure {
    CallFailure::NotJsonRpc("the body is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let text = "plain, é, 漢, 🦀, and \u{0}";
        for size in 1..=text.len() {
            let mut gathered = Text::default();
            for frame in text.as_bytes().chunks(size) {
                gathered.add(frame).unwrap();
            }
            assert_eq!(gathered.len(), text.len());
            assert_eq!(gathered.end().unwrap().0, text);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_wherever_it_is_cut() {
        for bytes in [&b"a\xff"[..], b"\xe6\xbcx", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f\xa6"] {
            for size in 1..=bytes.len() {
                let mut gathered = Text::default();
                let added = bytes.chunks(size).try_for_each(|frame| gathered.add(frame));
                assert!(added.and_then(|()| gathered.end()).is_err(), "{bytes:?} by {size}");
            }
        }
    }
}
