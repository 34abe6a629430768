//! Finds where JSON values end (RFC 8259), checked.

use super::{Span, long_strings, string};

/// Where the value ends that begins at `at`; `None` if there is none. What follows it is the
/// caller's to check: of `01` the value is `0`. `known` are strings whose ends were found before.
pub(super) fn value(bytes: &[u8], at: usize, known: &[Span]) -> Option<usize> {
    match bytes.get(at)? {
        b'{' | b'[' => nested(bytes, at, known),
        _ => plain(bytes, at, known),
    }
}

/// The same of a value that holds no others.
fn plain(bytes: &[u8], at: usize, known: &[Span]) -> Option<usize> {
    let word = |word: &[u8]| bytes.get(at..)?.starts_with(word).then_some(at + word.len());
    match bytes.get(at)? {
        b'"' => long_strings::end(known, at).or_else(|| string::end(bytes, at)),
        b't' => word(b"true"),
        b'f' => word(b"false"),
        b'n' => word(b"null"),
        _ => number(bytes, at),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let digits = |at: usize| {
        let count = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let whole = at + usize::from(is(at, b"-"));
    let mut end = if is(whole, b"0") { whole + 1 } else { digits(whole)? };
    if is(end, b".") {
        end = digits(end + 1)?;
    }
    if is(end, b"eE") {
        let exponent = end + 1;
        end = digits(exponent + usize::from(is(exponent, b"+-")))?;
    }
    Some(end)
}

/// Where the next byte is that is no white space.
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Array,
    Object,
}

/// What is open around a place: a bit for each, set for objects, the innermost last.
#[derive(Default)]
struct Nesting {
    inner: u64,
    depth: u32,
    /// Further out, in full words.
    outer: Vec<u64>,
}

impl Nesting {
    fn open(&mut self, holder: Holder) {
        if self.depth == u64::BITS {
            self.outer.push(self.inner);
            self.depth = 0;
        }
        self.inner = self.inner << 1 | u64::from(holder == Holder::Object);
        self.depth += 1;
    }

    /// Whether that leaves nothing open.
    fn close(&mut self) -> bool {
        self.inner >>= 1;
        self.depth -= 1;
        if self.depth > 0 {
            return false;
        }
        let outer = self.outer.pop();
        if let Some(outer) = outer {
            (self.inner, self.depth) = (outer, u64::BITS);
        }
        outer.is_none()
    }

    fn innermost(&self) -> Holder {
        if self.inner & 1 == 1 { Holder::Object } else { Holder::Array }
    }
}

/// Where the object or array ends that begins at `at`, however deep it is.
fn nested(bytes: &[u8], mut at: usize, known: &[Span]) -> Option<usize> {
    let mut nesting = Nesting::default();
    // Each turn takes one value, or what opens one, and all that it closes.
    loop {
        let open = match bytes.get(at)? {
            b'[' => Some((Holder::Array, b']')),
            b'{' => Some((Holder::Object, b'}')),
            _ => None,
        };
        if let Some((holder, close)) = open {
            nesting.open(holder);
            at = space(bytes, at + 1);
            if *bytes.get(at)? != close {
                at = next(bytes, at, holder)?;
                continue;
            }
        } else {
            at = space(bytes, plain(bytes, at, known)?);
        }
        loop {
            match (bytes.get(at)?, nesting.innermost()) {
                (b',', holder) => {
                    at = next(bytes, space(bytes, at + 1), holder)?;
                    break;
                }
                (b'}', Holder::Object) | (b']', Holder::Array) if nesting.close() => {
                    return Some(at + 1);
                }
                (b'}', Holder::Object) | (b']', Holder::Array) => at = space(bytes, at + 1),
                _ => return None,
            }
        }
    }
}

/// Where the next value of what holds it begins, if what belongs to it is at `at`.
fn next(bytes: &[u8], at: usize, holder: Holder) -> Option<usize> {
    match holder {
        Holder::Array => Some(at),
        Holder::Object => {
            let colon = space(bytes, string::end(bytes, at)?);
            (bytes.get(colon) == Some(&b':')).then(|| space(bytes, colon + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Whether a text is one value and white space, and `serde_json` thinks so too.
    #[track_caller]
    fn check(text: &str) -> bool {
        let bytes = text.as_bytes();
        let end = value(bytes, space(bytes, 0), &[]).map(|end| space(bytes, end));
        let is_ours = end == Some(text.len());
        assert_eq!(is_ours, serde_json::from_str::<&RawValue>(text).is_ok(), "{text:?}");
        is_ours
    }

    #[test]
    fn what_is_deep_is_read_to_its_end() {
        for depth in [1, 63, 64, 65, 128, 129, 500, 100_000] {
            let text = format!("{}1{}", r#"[{"a":"#.repeat(depth), "}]".repeat(depth));
            assert_eq!(value(text.as_bytes(), 0, &[]), Some(text.len()));
            assert_eq!(
                value(text.replace("}]}]", "}}]]").as_bytes(), 0, &[]).is_some(),
                depth == 1
            );
            assert_eq!(value(&text.as_bytes()[..text.len() - 1], 0, &[]), None);
        }
    }

    proptest! {
        #[test]
        fn json_is_what_serde_json_takes_for_it(
            text in r#"[{\[]{0,3}[{}\[\]",: \t0-9.eE+\-tfnrualse\\]{0,24}[}\]]{0,3}"#,
        ) {
            check(&text);
        }

        #[test]
        fn numbers_are_what_serde_json_takes_for_them(text in r"-?[01]?[0-9]{0,2}(\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
            check(&text);
        }

        #[test]
        fn whatever_is_written_is_read(parts in prop::collection::vec(any::<String>(), 0..4), number in any::<f64>()) {
            let value = serde_json::json!({"a": parts, "b": [number, {"c": [null, true, false, []]}], "": {}});
            prop_assert!(check(&value.to_string()));
            prop_assert!(check(&serde_json::to_string_pretty(&value).unwrap()));
        }
    }
}
