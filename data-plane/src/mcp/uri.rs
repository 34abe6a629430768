//! URIs of resources: which template a URI belongs to, and how a URI that two upstreams
//! have is told apart.

use std::borrow::Cow;

use ahash::AHashSet;

/// A URI template (RFC 6570), read backwards: whether a URI can have come from it.
///
/// Values are not taken out, so names do not matter. What servers mean by a plain
/// `{name}` is one segment; `{name*}` and the operators `+` and `#` reach over slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate {
    parts: Box<[Part]>,
    literal_length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// One or more bytes.
    Some(Reach),
    /// The byte and anything after it, or nothing: a variable may be undefined.
    Maybe(u8, Reach),
}

/// How far an expression reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Segment,
    Path,
    Everything,
}

impl Reach {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Segment => byte != b'/',
            Self::Path => !matches!(byte, b'?' | b'#'),
            Self::Everything => true,
        }
    }
}

impl UriTemplate {
    /// Reads a template; an expression that is not closed is taken as it stands.
    pub fn read(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((expression, after)) = after.split_once('}') else { break };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            parts.push(Part::of(expression));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        let literal = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Some(_) | Part::Maybe(..) => 0,
        };
        let literal_length = parts.iter().map(literal).sum();
        Self { parts: parts.into(), literal_length }
    }

    /// Bytes that stand fast: of several templates the one with most of them is meant.
    pub fn literal_length(&self) -> usize {
        self.literal_length
    }

    /// Whether `uri` can have come from this template. Time grows with parts × length.
    pub fn matches(&self, uri: &str) -> bool {
        let uri = uri.as_bytes();
        if let Some(Part::Literal(first)) = self.parts.first()
            && !uri.starts_with(first.as_bytes())
        {
            return false;
        }
        // Which places the parts so far can have led to.
        let mut reached = vec![false; uri.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for part in &self.parts {
            reached = part.advance(uri, &reached);
        }
        reached.last().copied().unwrap_or(false)
    }
}

impl Part {
    fn of(expression: &str) -> Self {
        let is_exploded = expression.ends_with('*');
        match expression.bytes().next() {
            Some(b'+') => Self::Some(Reach::Everything),
            Some(operator @ (b'#' | b'?' | b'&')) => Self::Maybe(operator, Reach::Everything),
            Some(operator @ (b'/' | b';')) => Self::Maybe(operator, Reach::Path),
            Some(b'.') => Self::Maybe(b'.', Reach::Segment),
            Some(_) if is_exploded => Self::Some(Reach::Everything),
            Some(_) | None => Self::Some(Reach::Segment),
        }
    }

    fn advance(&self, uri: &[u8], from: &[bool]) -> Vec<bool> {
        let mut to = vec![false; from.len()];
        match self {
            Self::Literal(text) => {
                for (at, _) in from.iter().enumerate().filter(|(_, is_reached)| **is_reached) {
                    let rest = uri.get(at..).unwrap_or_default();
                    if let (true, Some(end)) =
                        (rest.starts_with(text.as_bytes()), to.get_mut(at + text.len()))
                    {
                        *end = true;
                    }
                }
            }
            Self::Some(reach) => {
                let mut is_inside = false;
                for ((byte, is_start), end) in uri.iter().zip(from).zip(to.iter_mut().skip(1)) {
                    is_inside = (is_inside || *is_start) && reach.has(*byte);
                    *end = is_inside;
                }
            }
            Self::Maybe(operator, reach) => {
                let mut is_inside = false;
                to.copy_from_slice(from);
                for ((byte, is_start), end) in uri.iter().zip(from).zip(to.iter_mut().skip(1)) {
                    let begins = *is_start && byte == operator;
                    is_inside = begins || (is_inside && reach.has(*byte));
                    *end |= is_inside;
                }
            }
        }
        to
    }
}

/// The scheme of a URI with its colon, in lower case; empty if it has none.
pub fn scheme(uri: &str) -> Cow<'_, str> {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let found = uri.find(':').and_then(|colon| uri.split_at_checked(colon + 1));
    match found.filter(|(head, _)| is_scheme(head.trim_end_matches(':'))) {
        Some((head, _)) if head.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Cow::Owned(head.to_ascii_lowercase())
        }
        Some((head, _)) => Cow::Borrowed(head),
        None => Cow::Borrowed(""),
    }
}

/// The scheme, with its colon, under which the URIs of an upstream are shown that another
/// upstream has too. RFC 3986 has fewer characters for schemes than names have.
pub fn marker(upstream: &str) -> String {
    let safe = |character: char| match character {
        '_' => '.',
        other => other.to_ascii_lowercase(),
    };
    format!("lockgate+{}:", upstream.chars().map(safe).collect::<String>())
}

/// How one upstream's URIs are shown where some of them belong to another upstream already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uris {
    /// Stands before each URI that is shown differently.
    pub marker: Box<str>,
    /// URIs that are, under their own spelling.
    pub marked: AHashSet<Box<str>>,
    /// Templates whose URIs are.
    pub templates: Vec<UriTemplate>,
    /// URIs that are listed as they are.
    pub kept: AHashSet<Box<str>>,
    /// Templates whose URIs are shown as they are.
    pub kept_templates: Vec<UriTemplate>,
    /// Schemes of what is marked: servers link to more than they list.
    pub schemes: AHashSet<Box<str>>,
}

impl Uris {
    /// A URI of the upstream as clients see it; `None`: as it is.
    pub fn shown(&self, uri: &str) -> Option<String> {
        let fits = |templates: &[UriTemplate]| templates.iter().any(|it| it.matches(uri));
        let is_unlisted = || !fits(&self.kept_templates) && self.schemes.contains(&*scheme(uri));
        let is_marked = self.marked.contains(uri)
            || (!self.kept.contains(uri) && (fits(&self.templates) || is_unlisted()));
        is_marked.then(|| format!("{}{uri}", self.marker))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(template: &str, yes: &[&str], no: &[&str]) {
        let read = UriTemplate::read(template);
        for uri in yes {
            assert!(read.matches(uri), "{template} should have {uri}");
        }
        for uri in no {
            assert!(!read.matches(uri), "{template} should not have {uri}");
        }
    }

    #[test]
    fn a_plain_variable_is_one_segment() {
        let yes = ["test://template/1/data", "test://template/a%2Fb/data"];
        let no = ["test://template//data", "test://template/a/b/data", "test://template/1/dat", ""];
        check("test://template/{id}/data", &yes, &no);
        check("x://{a}-{b}", &["x://1-2", "x://1-2-3"], &["x://1", "x://-2"]);
        check("x://{a}/{b}", &["x://1/2"], &["x://1/", "x://1/2/3"]);
    }

    #[test]
    fn operators_reach_as_far_as_servers_mean() {
        check("file:///{+path}", &["file:///a/b?c"], &["file:///"]);
        check("file:///{path*}", &["file:///a/b"], &["file:///"]);
        check("x://a{?q,r}", &["x://a", "x://a?q=1&r=2"], &["x://ab"]);
        check("x://a{/path*}", &["x://a", "x://a/b/c"], &["x://a?b", "x://ab"]);
        check("x://a{#part}", &["x://a", "x://a#b/c"], &["x://ab"]);
        check("x://a{.kind}{?q}", &["x://a.txt?q=1", "x://a?q=1"], &["x://a/b"]);
        check("x://a{;p}", &["x://a;p=1", "x://a"], &["x://a?p"]);
        check("x://{year:4}", &["x://2026"], &[]);
        check("x://plain", &["x://plain"], &["x://plain2"]);
        check("x://{open", &["x://{open"], &["x://a"]);
    }

    #[test]
    fn longer_literals_say_more() {
        let length = |template: &str| UriTemplate::read(template).literal_length();
        assert!(length("x://users/{id}") > length("x://{+rest}"));
        assert_eq!(length("x://users/{id}/a"), 12);
    }

    #[test]
    fn schemes_are_found_and_made() {
        assert_eq!(scheme("test://x"), "test:");
        assert_eq!(scheme("HTTP://x"), "http:");
        assert_eq!(scheme("lockgate+a.b:test://x"), "lockgate+a.b:");
        assert_eq!(scheme("no scheme: here"), "");
        assert_eq!(scheme("a/b:c"), "");
        let made = marker("My_Server.1");
        assert_eq!((made.as_str(), &*scheme(&made)), ("lockgate+my.server.1:", &*made));
    }

    #[test]
    fn only_what_is_marked_is_shown_differently() {
        let uris = Uris {
            marker: "m:".into(),
            marked: AHashSet::from_iter(["a://1".into()]),
            templates: vec![UriTemplate::read("t://{id}")],
            kept: AHashSet::from_iter(["t://kept".into()]),
            kept_templates: vec![UriTemplate::read("s://own/{id}")],
            schemes: AHashSet::from_iter(["s:".into(), "t:".into()]),
        };
        assert_eq!(uris.shown("a://1").as_deref(), Some("m:a://1"));
        assert_eq!(uris.shown("t://9").as_deref(), Some("m:t://9"));
        assert_eq!(uris.shown("a://2"), None);
        assert_eq!(uris.shown("t://kept"), None);
        assert_eq!(uris.shown("s://own/1"), None);
        assert_eq!(uris.shown("s://linked").as_deref(), Some("m:s://linked"));
    }

    proptest! {
        #[test]
        fn an_expansion_belongs_to_its_template(
            parts in prop::collection::vec(("[a-z:/.]{0,4}", "[a-z0-9%]{1,4}"), 1..6), end in "[a-z]{0,3}",
        ) {
            let join = |values: Vec<&str>| {
                let pairs = parts.iter().zip(values);
                let joined: Vec<_> = pairs.flat_map(|((literal, _), it)| [literal.as_str(), it]).collect();
                joined.concat() + &end
            };
            let template = join(vec!["{v}"; parts.len()]);
            let uri = join(parts.iter().map(|(_, value)| value.as_str()).collect());
            prop_assert!(UriTemplate::read(&template).matches(&uri));
        }

        #[test]
        fn no_text_makes_it_slow_or_panic(template in ".{0,40}", uri in ".{0,200}") {
            UriTemplate::read(&template).matches(&uri);
        }
    }
}
