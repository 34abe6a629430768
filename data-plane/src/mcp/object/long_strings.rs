//! Finds the ends of long strings in a text while it comes, when what came last is in the caches of
//! the processor, where a large text as a whole is not.

use fearless_simd::Level;

use super::{
    Span,
    string::{NoString, Search},
};

/// Shorter strings are better read again, in bytes.
const LONG: usize = 64 * 1024;
/// After more short strings in a row than these no long ones are looked for.
const SHORT_MAX: u32 = 64;

/// The long strings of one text, in its order. That one is here says that those bytes are a JSON
/// string (RFC 8259, §7), not that the text has a string there.
#[derive(Debug)]
pub(crate) struct LongStrings {
    known: Vec<Span>,
    state: State,
    /// What this processor has.
    level: Level,
}

#[derive(Debug)]
enum State {
    /// The next string begins at this byte or later, after so many short ones.
    Between {
        at: usize,
        short: u32,
    },
    /// Within the string that begins at this byte.
    Within {
        start: usize,
        search: Search,
        short: u32,
    },
    GivenUp,
}

impl Default for LongStrings {
    fn default() -> Self {
        let state = State::Between { at: 0, short: 0 };
        Self { known: Vec::new(), state, level: Level::new() }
    }
}

impl LongStrings {
    /// Goes on with all that there is of the text by now.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        while let Some(next) = self.step(bytes) {
            self.state = next;
        }
    }

    /// `None` if more of the text is needed, or nothing is looked for any more.
    fn step(&mut self, bytes: &[u8]) -> Option<State> {
        match &mut self.state {
            State::GivenUp => None,
            State::Between { at, short } => {
                let Some(found) = memchr::memchr(b'"', bytes.get(*at..)?) else {
                    *at = bytes.len();
                    return None;
                };
                let (start, short) = (*at + found, *short);
                Some(State::Within { start, search: Search::new(start), short })
            }
            State::Within { start, search, short } => {
                Some(match search.go_on(self.level, bytes)? {
                    Ok(end) if end - *start >= LONG => {
                        self.known.push(Span { start: *start, end });
                        State::Between { at: end, short: 0 }
                    }
                    Ok(end) if *short < SHORT_MAX => State::Between { at: end, short: *short + 1 },
                    Ok(_) | Err(NoString) => State::GivenUp,
                })
            }
        }
    }

    /// What was found in the whole text.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Vec<Span> {
        self.read(bytes);
        if let State::Within { start, search, short: _ } = self.state
            && let Some(end) = search.finish(self.level, bytes)
        {
            self.known.extend((end - start >= LONG).then_some(Span { start, end }));
        }
        self.known
    }
}

/// Where the string ends that begins at `at`, if it is among these.
pub(super) fn end(known: &[Span], at: usize) -> Option<usize> {
    let place = known.binary_search_by_key(&at, |span| span.start).ok()?;
    known.get(place).map(|span| span.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Cursor, string},
        *,
    };

    /// Reads a text that comes by pieces of this size. What is found is a string wherever it is.
    fn known(text: &str, size: usize) -> Vec<Span> {
        let mut strings = LongStrings::default();
        for end in (0..text.len()).step_by(size).skip(1) {
            strings.read(&text.as_bytes()[..end]);
        }
        let known = strings.finish(text.as_bytes());
        for span in &known {
            assert_eq!(string::end(text.as_bytes(), span.start), Some(span.end));
            assert!(span.end - span.start >= LONG);
        }
        known
    }

    fn long(part: &str) -> String {
        format!("\"{}\"", part.repeat(LONG / part.len() + 1))
    }

    #[test]
    fn long_strings_are_found_however_they_come() {
        let strings = ["plain", r#"a \"quoted\" line\n"#, r"\\", r"\u00e9", "é"].map(long);
        let text = format!(r#"{{"short":"\\","all":[{}],"end":"\""}}"#, strings.join(" ,"));
        for size in [63, 64, 1000, 50_000, LONG, text.len()] {
            let known = known(&text, size);
            let found: Vec<_> = known.iter().map(|span| span.of(&text)).collect();
            assert!(found == strings, "by {size}: {}", found.len());
            assert_eq!(Cursor::knowing(&text, &known).value(), Cursor::new(&text).value());
        }
    }

    #[test]
    fn a_string_that_is_wrong_or_has_no_end_is_not_known() {
        let good = long("x");
        for bad in ["\u{1}", "\n", r"\x", r"\u12g4", r"\"] {
            let text = format!("{good} \"{}{bad}\"", "y".repeat(2 * LONG));
            assert_eq!(known(&text, 1000).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn among_many_short_strings_long_ones_are_not_looked_for() {
        let many = |count: u32| "\"short\",".repeat(count as usize);
        let text = |count| format!("{}{},", many(count), long("x"));
        let (few, more) = (text(SHORT_MAX), text(SHORT_MAX + 1));
        assert_eq!(known(&few, 1000).len(), 1);
        assert_eq!(known(&more, 1000).len(), 0);
        assert_eq!(known(&format!("{few}{few}{more}"), 1000).len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_known_changes_nothing_of_what_is_read(
            parts in prop::collection::vec(r#"[a-z\\"n\{\}\[\],:é ]{0,8}"#, 1..6),
            size in 1_000..100_000_usize,
        ) {
            // Where a part has quotes, what is between two parts is taken for a string.
            let string = parts.join(&"1,".repeat(LONG / 2));
            let escaped = serde_json::json!([string, parts]).to_string();
            for (text, is_long) in [(format!("[\"{string}\"]"), false), (escaped, string.len() >= LONG)] {
                let known = known(&text, size);
                let value = Cursor::knowing(&text, &known).value();
                prop_assert_eq!(&value, &Cursor::new(&text).value());
                let is_read = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                prop_assert_eq!(value.is_ok_and(|span| span.end == text.len()), is_read);
                prop_assert!(!is_long || is_read && !known.is_empty());
            }
        }
    }
}
