//! Walks JSON objects in place: members as byte spans of the text, nothing copied. One pass over
//! the text both validates it and finds the spans.

mod long_strings;
mod skip;
mod string;

use std::borrow::Cow;

use ahash::AHashSet;
use bytes::Bytes;

pub(crate) use self::long_strings::LongStrings;

/// A range of bytes of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The empty span before byte `at`: where an insertion goes.
    pub fn at(at: usize) -> Self {
        Self { start: at, end: at }
    }

    /// The text under this span; empty if it is not a span of `text`.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes under this span, sharing `body`; none if it is not a span of it.
    pub fn shared(self, body: &Bytes) -> Bytes {
        if self.start <= self.end && self.end <= body.len() {
            return body.slice(self.start..self.end);
        }
        Bytes::new()
    }
}

/// Most keys of an object that is walked (reliability §4.8); what is not walked may have more.
pub const KEYS_MAX: usize = 10_000;

/// Why a text cannot be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not JSON at byte {at}")]
    Syntax { at: usize },
    #[error("an object has more than {KEYS_MAX} keys")]
    TooManyKeys,
}

/// A place in a JSON text.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Strings of the text whose ends were found before.
    known: &'a [Span],
}

/// What was seen of an object as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Object {
    /// From `{` to `}`.
    pub span: Span,
    /// Whether a key came twice, in whatever spelling.
    pub has_duplicates: bool,
}

/// One `"key": value` of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<N> {
    /// The key, unescaped or as what it means.
    pub name: N,
    /// The key with its quotes.
    pub key: Span,
    pub value: Span,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, known: &[] }
    }

    /// The same of a text of which strings are known, by [`LongStrings`].
    pub(crate) fn knowing(text: &'a str, known: &'a [Span]) -> Self {
        Self { text, at: 0, known }
    }

    /// Starts in the middle of a text, so that spans are spans of the whole.
    pub fn starting_at(text: &'a str, at: usize) -> Self {
        Self { text, at, known: &[] }
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_after_space(),
        }
    }

    fn peek_after_space(&mut self) -> Option<u8> {
        self.at = skip::space(self.text.as_bytes(), self.at);
        self.text.as_bytes().get(self.at).copied()
    }

    /// Consumes one value of any kind, checked.
    pub fn value(&mut self) -> Result<Span, Unreadable> {
        self.peek();
        self.skip_to(skip::value(self.text.as_bytes(), self.at, self.known))
    }

    /// Consumes what ends there.
    fn skip_to(&mut self, end: Option<usize>) -> Result<Span, Unreadable> {
        let start = self.at;
        self.at = end.ok_or(self.syntax())?;
        Ok(Span { start, end: self.at })
    }

    /// Consumes an object; `visit` must consume the value of each member.
    pub fn object<F>(&mut self, mut visit: F) -> Result<Object, Unreadable>
    where
        F: FnMut(&mut Self, Cow<'a, str>, Span) -> Result<(), Unreadable>,
    {
        self.peek();
        let start = self.at;
        self.expect(b'{')?;
        let mut seen = Seen::default();
        let mut has_duplicates = false;
        let mut count = 0;
        while self.peek() != Some(b'}') {
            if count > 0 {
                self.expect(b',')?;
            }
            count += 1;
            if count > KEYS_MAX {
                return Err(Unreadable::TooManyKeys);
            }
            let (name, key) = self.key()?;
            has_duplicates |= !seen.insert(name.clone());
            self.expect(b':')?;
            visit(self, name, key)?;
        }
        self.expect(b'}')?;
        Ok(Object { span: Span { start, end: self.at }, has_duplicates })
    }

    /// Consumes an array; `visit` must consume each element.
    pub fn array<F>(&mut self, mut visit: F) -> Result<(), Unreadable>
    where
        F: FnMut(&mut Self) -> Result<(), Unreadable>,
    {
        self.expect(b'[')?;
        if self.peek() != Some(b']') {
            visit(self)?;
            while self.peek() != Some(b']') {
                self.expect(b',')?;
                visit(self)?;
            }
        }
        self.expect(b']')
    }

    /// Fails if anything but white space is left.
    pub fn end(&mut self) -> Result<(), Unreadable> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax()),
        }
    }

    fn key(&mut self) -> Result<(Cow<'a, str>, Span), Unreadable> {
        self.peek();
        let span = self.skip_to(string::end(self.text.as_bytes(), self.at))?;
        let name = unquote(span.of(self.text)).ok_or(Unreadable::Syntax { at: span.start })?;
        Ok((name, span))
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(wanted) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn syntax(&self) -> Unreadable {
        Unreadable::Syntax { at: self.at }
    }
}

/// The string that a raw JSON string stands for; `None` if it is no string.
pub fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The members of the object at `span` of `text`, in order; none if it is no object.
pub fn members(text: &str, span: Span) -> Vec<Member<Cow<'_, str>>> {
    let mut members = Vec::new();
    let text = text.get(..span.end).unwrap_or_default();
    let walked = Cursor::starting_at(text, span.start).object(|cursor, name, key| {
        let value = cursor.value()?;
        members.push(Member { name, key, value });
        Ok(())
    });
    if walked.is_err() {
        members.clear();
    }
    members
}

/// The same if it is an object that all readers understand alike: readable, no name twice.
pub fn unambiguous(text: &str, span: Span) -> Option<Vec<Member<Cow<'_, str>>>> {
    let members = members(text, span);
    let is_empty = || text.get(span.start + 1..span.end - 1).is_some_and(|it| it.trim().is_empty());
    let is_object = span.of(text).starts_with('{') && (!members.is_empty() || is_empty());
    let mut names: Vec<_> = members.iter().map(|member| &member.name).collect();
    names.sort_unstable();
    (is_object && names.windows(2).all(|pair| pair.first() != pair.last())).then_some(members)
}

/// The value of the first member called `name` in the object at `span`.
pub fn member(text: &str, span: Span, name: &str) -> Option<Span> {
    members(text, span).into_iter().find(|member| member.name == name).map(|member| member.value)
}

/// The elements of the array at `span` of `text`, in order; none if it is no array.
pub fn elements(text: &str, span: Span) -> Vec<Span> {
    let text = text.get(..span.end).unwrap_or_default();
    let mut cursor = Cursor::starting_at(text, span.start);
    let mut elements = Vec::new();
    if cursor.expect(b'[').is_err() {
        return elements;
    }
    while cursor.peek() != Some(b']') {
        if !elements.is_empty() && cursor.expect(b',').is_err() {
            return Vec::new();
        }
        match cursor.value() {
            Ok(element) => elements.push(element),
            Err(_) => return Vec::new(),
        }
    }
    elements
}

/// What to cut out of an object so that the members for which `is_dropped` holds
/// are gone and exactly the commas of the others stay.
pub fn cuts<N>(members: &[Member<N>], is_dropped: impl Fn(&Member<N>) -> bool) -> Vec<Span> {
    let mut cuts = Vec::new();
    let mut previous: Option<&Member<N>> = None;
    let mut is_one_kept = false;
    for (index, member) in members.iter().enumerate() {
        if !is_dropped(member) {
            is_one_kept = true;
        } else if let (true, Some(previous)) = (is_one_kept, previous) {
            cuts.push(Span { start: previous.value.end, end: member.value.end });
        } else {
            let end = members.get(index + 1).map_or(member.value.end, |next| next.key.start);
            cuts.push(Span { start: member.key.start, end });
        }
        previous = Some(member);
    }
    cuts
}

/// Keys met so far; a handful without allocation.
#[derive(Default)]
struct Seen<'a> {
    few: [Option<Cow<'a, str>>; 8],
    many: Option<AHashSet<Cow<'a, str>>>,
}

impl<'a> Seen<'a> {
    /// False if the key was there already.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        for slot in &mut self.few {
            match slot {
                Some(seen) if *seen == name => return false,
                Some(_) => (),
                None => {
                    *slot = Some(name);
                    return true;
                }
            }
        }
        self.many.get_or_insert_default().insert(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn without(text: &str, dropped: &[&str]) -> String {
        let members = members(text, Span { start: 0, end: text.len() });
        let mut out = String::new();
        let mut at = 0;
        for cut in cuts(&members, |member| dropped.contains(&&*member.name)) {
            out.push_str(&text[at..cut.start]);
            at = cut.end;
        }
        out + &text[at..]
    }

    #[test]
    fn members_leave_with_their_comma() {
        let text = r#"{ "a":1, "b" : 2,"c":[3] }"#;
        assert_eq!(without(text, &["a"]), r#"{ "b" : 2,"c":[3] }"#);
        assert_eq!(without(text, &["b"]), r#"{ "a":1,"c":[3] }"#);
        assert_eq!(without(text, &["c"]), r#"{ "a":1, "b" : 2 }"#);
        assert_eq!(without(text, &["a", "b"]), r#"{ "c":[3] }"#);
        assert_eq!(without(text, &["b", "c"]), r#"{ "a":1 }"#);
        assert_eq!(without(text, &["a", "b", "c"]), "{  }");
        assert_eq!(without(text, &[]), text);
    }

    #[test]
    fn elements_are_found_in_order() {
        let found = |text: &str| -> Vec<String> {
            let whole = Span { start: 0, end: text.len() };
            elements(text, whole).into_iter().map(|span| span.of(text).to_owned()).collect()
        };
        assert_eq!(found(r#"[ 1, {"a":[2]} ,"]" ]"#), ["1", r#"{"a":[2]}"#, r#""]""#]);
        assert!(found("[]").is_empty() && found("{}").is_empty() && found("[1 2]").is_empty());
    }

    #[test]
    fn duplicates_are_seen_in_every_spelling() {
        let has_duplicates = |text: &str| {
            let walked = Cursor::new(text).object(|cursor, _, _| cursor.value().map(drop));
            walked.unwrap().has_duplicates
        };
        assert!(has_duplicates(r#"{"a":1,"b":2,"\u0061":3}"#));
        assert!(!has_duplicates(r#"{"a":1,"A":2}"#));
        let many: Vec<_> = (0..40).map(|key| format!("\"{key}\":0")).collect();
        assert!(!has_duplicates(&format!("{{{}}}", many.join(","))));
        assert!(has_duplicates(&format!("{{{},\"33\":0}}", many.join(","))));
    }

    proptest! {
        #[test]
        fn the_walk_accepts_exactly_what_serde_json_accepts(text in r#"[{}\[\]",: a0-9\\tfnue.\-]{0,24}"#) {
            let text = format!("{{{text}");
            let mut cursor = Cursor::new(&text);
            let ours = cursor.object(|cursor, _, _| cursor.value().map(drop)).and_then(|_| cursor.end());
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        }

        #[test]
        fn what_is_left_after_a_cut_is_json(keep in prop::collection::vec(any::<bool>(), 0..7)) {
            let body: Vec<_> = keep.iter().enumerate()
                .map(|(index, keep)| format!("\"{keep}{index}\" : {index}")).collect();
            let text = format!("{{ {} }}", body.join(" , "));
            let dropped: Vec<_> = (0..keep.len()).map(|index| format!("false{index}")).collect();
            let dropped: Vec<_> = dropped.iter().map(String::as_str).collect();
            let left: serde_json::Value = serde_json::from_str(&without(&text, &dropped)).unwrap();
            prop_assert_eq!(left.as_object().unwrap().len(), keep.iter().filter(|keep| **keep).count());
        }
    }
}
