//! Finds where JSON strings end (RFC 8259, §7), checked: many bytes at a time, since answers are
//! mostly text with many escapes.

use wide::u8x16;

/// How many bytes are looked at together: one bit of a word for each.
const BLOCK: usize = 64;
/// How many of a string are looked at first: most strings are names.
const LANE: usize = 16;
/// Every other bit, beginning with the first.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Where the string ends that begins at `at`, after its quotes; `None` if there is none.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    end_of_short(bytes, at + 1).or_else(|| end_of_any(bytes, at + 1))
}

/// The same of a string in which nothing is escaped, and whose first byte within its quotes is at
/// `at`; `None` if that takes more than one look.
#[inline]
fn end_of_short(bytes: &[u8], at: usize) -> Option<usize> {
    let found = Found::of(bytes.get(at..)?.first_chunk::<LANE>()?);
    let stops = found.quotes | found.backslashes | found.controls;
    let first = stops & stops.wrapping_neg();
    (found.quotes & first != 0).then(|| at + lowest(first) + 1)
}

/// The same of any string.
fn end_of_any(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut carry = 0;
    loop {
        let rest = bytes.get(at..)?;
        let found = rest.first_chunk::<BLOCK>().map_or_else(|| Found::of_last(rest), Found::of);
        if found.quotes | found.backslashes | found.controls | carry != 0 {
            let escaped = escaped(found.backslashes, &mut carry);
            let ends = found.quotes & !escaped;
            let inside = ends.wrapping_sub(1) & !ends;
            // These two may be escaped always, and most that are escaped are these.
            let others = escaped & !(found.quotes | found.backslashes);
            if found.controls & inside != 0 || !are_escapes(bytes, at, others & inside) {
                return None;
            }
            if ends != 0 {
                return Some(at + lowest(ends) + 1);
            }
        }
        at += BLOCK;
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

/// What there is in a block, a bit for each byte.
struct Found {
    quotes: u64,
    backslashes: u64,
    controls: u64,
}

impl Found {
    /// `N` is a multiple of [`LANE`], and not more than [`BLOCK`].
    #[inline]
    fn of<const N: usize>(block: &[u8; N]) -> Self {
        let mut found = Self { quotes: 0, backslashes: 0, controls: 0 };
        let (lanes, _) = block.as_chunks::<LANE>();
        for (number, lane) in lanes.iter().enumerate() {
            let lane = u8x16::new(*lane);
            let bits = |is: u8x16| u64::from(is.to_bitmask()) << (number * LANE);
            found.quotes |= bits(lane.simd_eq(u8x16::splat(b'"')));
            found.backslashes |= bits(lane.simd_eq(u8x16::splat(b'\\')));
            found.controls |= bits(lane.simd_eq(lane.min(u8x16::splat(0x1f))));
        }
        found
    }

    /// The same of the last bytes of a text, less than a block. What is missing of it is found to
    /// be controls, so that no string goes on there.
    fn of_last(rest: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Self::of(&block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a text is one string, and `serde_json` thinks so too.
    #[track_caller]
    fn check(text: &str) -> bool {
        let is_ours = end(text.as_bytes(), 0) == Some(text.len());
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
        for before in [0, 1, LANE - 1, LANE, BLOCK - 2, BLOCK - 1, BLOCK, 3 * BLOCK] {
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
