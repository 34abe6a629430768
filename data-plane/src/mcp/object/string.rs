//! Finds where JSON strings end (RFC 8259, §7), checked: many bytes at a time, since answers are
//! mostly text with many escapes.

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x16, u8x64};

/// How many bytes are looked at together: one bit of a word for each.
const BLOCK: usize = 64;
/// How many of a string are looked at first: most strings are names.
const LANE: usize = 16;
/// How many are looked at with what every processor has, so that most strings take the same
/// instructions on each of them, and can be counted. The rest is for what this one has.
const NEAR: usize = 16 * BLOCK;
/// How many bytes may belong to an escape after the one behind its backslash.
const ESCAPE_MAX: usize = 4;
/// Bytes below this one must be escaped.
const CONTROLS: u8 = 0x20;
/// Every other bit, beginning with the first.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Where the string ends that begins at `at`, after its quotes; `None` if there is none.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let level = Level::baseline();
    let lane = bytes.get(at + 1..)?.first_chunk();
    let short = lane.and_then(|lane| dispatch!(level, simd => length_of_short(simd, lane)));
    short.map_or_else(|| end_of_long(bytes, at), |length| Some(at + 1 + length))
}

/// The same of a string that takes more than one look.
fn end_of_long(bytes: &[u8], at: usize) -> Option<usize> {
    let mut search = Search::new(at);
    let Some(near) = bytes.get(..at + NEAR) else {
        return search.finish(Level::baseline(), bytes);
    };
    match search.go_on(Level::baseline(), near) {
        Some(ended) => ended.ok(),
        None => search.finish(Level::new(), bytes),
    }
}

/// How long a string is, with its last quotes, in which nothing is escaped, and whose first bytes
/// these are; `None` if that takes more than one look.
#[expect(clippy::inline_always, reason = "else compiled for processors of the lowest level")]
#[inline(always)]
fn length_of_short<S: Simd>(simd: S, lane: &[u8; LANE]) -> Option<usize> {
    let lane = u8x16::simd_from(simd, *lane);
    let quotes = lane.simd_eq(b'"');
    let stops = (quotes | lane.simd_eq(b'\\') | lane.simd_lt(CONTROLS)).to_bitmask();
    let first = stops & stops.wrapping_neg();
    (quotes.to_bitmask() & first != 0).then(|| lowest(first) + 1)
}

/// The search for the end of one string, block by block. The text may come meanwhile.
#[derive(Debug)]
pub(super) struct Search {
    /// Where the next block begins.
    at: usize,
    /// 1 if its first byte stands behind a backslash that is not escaped.
    carry: u64,
}

/// What is no string.
#[derive(Debug)]
pub(super) struct NoString;

impl Search {
    /// Of the string whose first quotes are at `at`.
    pub(super) fn new(at: usize) -> Self {
        Self { at: at + 1, carry: 0 }
    }

    /// Where the string ends, if that is certain by what there is of the text; `None` if not.
    pub(super) fn go_on(&mut self, level: Level, bytes: &[u8]) -> Option<Result<usize, NoString>> {
        dispatch!(level, simd => {
            loop {
                let rest = bytes.get(self.at..).filter(|rest| rest.len() >= BLOCK + ESCAPE_MAX)?;
                if let Some(ended) = self.block(bytes, u8x64::simd_from(simd, *rest.first_chunk()?)) {
                    return Some(ended);
                }
            }
        })
    }

    /// Where the string ends, if there is no more of the text; `None` if it is no string.
    pub(super) fn finish(mut self, level: Level, bytes: &[u8]) -> Option<usize> {
        if let Some(ended) = self.go_on(level, bytes) {
            return ended.ok();
        }
        // What is missing is found to be controls, so that no string goes on there.
        let mut last = [0; 2 * BLOCK + ESCAPE_MAX];
        last.iter_mut().zip(bytes.get(self.at..)?).for_each(|(to, from)| *to = *from);
        let end = Self { at: 0, ..self }.go_on(level, &last)?.ok()?;
        Some(self.at + end)
    }

    /// Takes one block; `None` if the string goes on.
    #[expect(clippy::inline_always, reason = "else compiled for processors of the lowest level")]
    #[inline(always)]
    fn block<S: Simd>(&mut self, bytes: &[u8], block: u8x64<S>) -> Option<Result<usize, NoString>> {
        let at = self.at;
        self.at += BLOCK;
        let all = |byte: u8| block.simd_eq(byte).to_bitmask();
        let (quotes, backslashes) = (all(b'"'), all(b'\\'));
        let controls = block.simd_lt(CONTROLS);
        if !controls.any_true() && quotes | backslashes | self.carry == 0 {
            return None;
        }
        let escaped = escaped(backslashes, &mut self.carry);
        let ends = quotes & !escaped;
        let inside = ends.wrapping_sub(1) & !ends;
        if controls.any_true() && controls.to_bitmask() & inside != 0 {
            return Some(Err(NoString));
        }
        // These three may be escaped always, and most that are escaped are these.
        let others = escaped & !(quotes | backslashes | all(b'n'));
        if !are_escapes(bytes, at, others & inside) {
            return Some(Err(NoString));
        }
        (ends != 0).then(|| Ok(at + lowest(ends) + 1))
    }
}

/// The number of the lowest bit that is set.
fn lowest(bits: u64) -> usize {
    bits.trailing_zeros() as usize
}

/// Whether each of some bytes of the block at `at` may stand behind a backslash.
fn are_escapes(bytes: &[u8], at: usize, mut which: u64) -> bool {
    while which != 0 {
        if !is_escape(bytes, at + lowest(which)) {
            return false;
        }
        which &= which - 1;
    }
    true
}

fn is_escape(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
        Some(b'u') => {
            let digits = bytes.get(at + 1..at + 5);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        }
        Some(_) | None => false,
    }
}

/// Which bytes of a block stand behind a backslash that is not escaped itself. `carry` is 1 if
/// the first byte does; afterwards, if the first one of the next block does.
fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    let backslashes = backslashes & !*carry;
    let behind = backslashes << 1 | *carry;
    // A sum carries through each run of backslashes to the byte behind it. Only runs that begin at
    // odd places are carried, which swaps there which places of the run are escaped.
    let odd_starts = backslashes & !EVEN & !behind;
    let (carried, overflows) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflows);
    (EVEN ^ carried << 1) & behind
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that this machine has.
    fn levels() -> impl Iterator<Item = Level> {
        let all = Level::new();
        #[cfg(target_arch = "x86_64")]
        let between = [all.as_sse4_2().map(Simd::level), all.as_avx2().map(Simd::level)];
        #[cfg(not(target_arch = "x86_64"))]
        let between = [None; 0];
        [Level::baseline(), all].into_iter().chain(between.into_iter().flatten())
    }

    /// Whether a text is one string, and `serde_json` thinks so too.
    #[track_caller]
    fn check(text: &str) -> bool {
        let bytes = text.as_bytes();
        let is_ours = end(bytes, 0) == Some(bytes.len());
        for level in levels() {
            let ends = bytes.first() == Some(&b'"')
                && Search::new(0).finish(level, bytes) == Some(bytes.len());
            assert_eq!(ends, is_ours, "{level:?}: {text:?}");
        }
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text);
        assert_eq!(is_ours, theirs.is_ok(), "{text:?}");
        is_ours
    }

    #[test]
    fn runs_of_backslashes_end_at_every_place_of_a_block() {
        for before in 0..2 * BLOCK {
            for run in 0..2 * BLOCK {
                let begin = format!("\"{}{}\"", "x".repeat(before), "\\".repeat(run));
                assert_eq!(check(&begin), run % 2 == 0);
                assert_eq!(check(&format!("{begin}, and more\u{e9}\"")), run % 2 == 1);
            }
        }
    }

    #[test]
    fn every_byte_is_allowed_where_it_is() {
        let around = [("", ""), ("\\", ""), ("\\", "00e9"), ("\\\\", "0")];
        for before in [0, 1, LANE - 1, LANE, BLOCK - 2, BLOCK - 1, BLOCK, 3 * BLOCK, NEAR - 2, NEAR]
        {
            for byte in (0..0x80_u8).map(char::from) {
                for (escape, after) in around {
                    let begin = format!("\"{}{escape}{byte}{after}", "x".repeat(before));
                    check(&format!("{begin}\""));
                    check(&format!("{begin}{}\"", "y".repeat(BLOCK)));
                    check(&begin);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn strings_are_what_serde_json_takes_for_them(
            parts in prop::collection::vec(r#"[a-z]{0,70}|\\{1,3}|"|\\u[0-9a-g]{3,4}|[\x00-\x7f]|é"#, 0..8),
        ) {
            let text = format!("\"{}\"", parts.concat());
            check(&text);
            prop_assert!(check(&serde_json::to_string(&text).unwrap()));
        }
    }
}
