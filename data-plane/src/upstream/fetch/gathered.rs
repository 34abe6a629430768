//! What a body is gathered in whose frames come one by one.

use bytes::BytesMut;
use bytestring::ByteString;
use simdutf8::basic::from_utf8;

use crate::{
    mcp::{ParseError, Span, object::LongStrings},
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
        let (whole, cut) = bytes.split_at_checked(bytes.len() - begun(bytes)).unwrap_or_default();
        self.checked.push_str(from_utf8(whole).map_err(|_| no_text())?);
        self.cut.extend_from_slice(cut);
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

/// How many of the last bytes are the beginning of a character, if all are text (RFC 3629, §3).
fn begun(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3).zip(1_u32..);
    let mut begins = last.filter(|(byte, length)| byte.leading_ones() > *length);
    begins.next().map_or(0, |(_, length)| length as usize)
}

/// What it means for an answer that it is no UTF-8.
pub(super) fn no_text() -> CallFailure {
    CallFailure::NotJsonRpc(ParseError::NotText.to_string())
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
    fn long_strings_are_found_before_all_has_come() {
        let string = format!("\"{}\"", "é".repeat(64 * 1024));
        let text = format!("[{string}, and more than a block that follows{}", " ".repeat(64));
        let mut gathered = Text::default();
        for frame in text.as_bytes().chunks(1001) {
            gathered.add(frame).unwrap();
        }
        let known: Vec<_> = gathered.strings.finish(b"").iter().map(|it| it.of(&text)).collect();
        assert!(known == [string]);
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
