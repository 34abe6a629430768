//! What servers offer beyond what we know: shown to clients as the servers wrote it.

use std::borrow::Cow;

use super::{
    feature::{Features, OUTER},
    message::splice,
    object::{Member, Span, member, members},
    task::EXTENSION,
};

/// Members of `ServerCapabilities` that hold what anybody may add.
const OPEN: [&str; 2] = ["extensions", "experimental"];
/// Governed by what is bridged, and by nothing else.
const SERVER_TASKS: &str = "tasks";
/// Largest `ServerCapabilities` object that is kept as it was written, in bytes.
pub const KEPT_MAX: usize = 64 * 1024;

/// Members of the `ServerCapabilities` of one or several servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond(Vec<Extra>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extra {
    /// The member that it is inside of; empty: of none.
    outer: Box<str>,
    name: Box<str>,
    /// Key and value, as written.
    text: Box<str>,
}

/// A `ServerCapabilities` object as far as we keep it: of one that is too large, what we know.
pub fn kept(capabilities: &str) -> Cow<'_, str> {
    if capabilities.len() <= KEPT_MAX {
        return Cow::Borrowed(capabilities);
    }
    tracing::warn!(
        bytes = capabilities.len(),
        "the capabilities of a server are too large to keep"
    );
    Cow::Owned(Features::read(capabilities).to_json())
}

/// The identifiers of the extensions and experiments in a `ServerCapabilities` object that we do
/// not know.
pub fn identifiers(capabilities: &str) -> Vec<Box<str>> {
    let whole = Span { start: 0, end: capabilities.len() };
    let held = OPEN.iter().filter_map(|name| member(capabilities, whole, name));
    let inner = held.flat_map(|span| members(capabilities, span));
    inner.filter(|it| it.name != EXTENSION).map(|it| it.name.into()).collect()
}

impl Beyond {
    /// All that an only server offers.
    pub fn of_one(capabilities: &str) -> Self {
        let mut all = Self::default();
        for outer in members(capabilities, Span { start: 0, end: capabilities.len() }) {
            let is_object = outer.value.of(capabilities).starts_with('{');
            match &*outer.name {
                SERVER_TASKS => (),
                name if OPEN.contains(&name) && is_object => all.open(capabilities, &outer),
                name => match OUTER.iter().find(|(known, _)| *known == name) {
                    Some((_, known)) => {
                        let inner = members(capabilities, outer.value);
                        for it in inner.iter().filter(|it| !known.contains(&&*it.name)) {
                            all.add(name, it, capabilities);
                        }
                    }
                    None => all.add("", &outer, capabilities),
                },
            }
        }
        all
    }

    /// Extensions and experiments of several servers; of two with the same name, the earlier
    /// server's counts.
    pub fn of_several<'a>(servers: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for capabilities in servers {
            let outer = members(capabilities, Span { start: 0, end: capabilities.len() });
            for outer in outer.iter().filter(|it| OPEN.contains(&&*it.name)) {
                all.open(capabilities, outer);
            }
        }
        all
    }

    fn open(&mut self, text: &str, outer: &Member<Cow<'_, str>>) {
        for inner in members(text, outer.value).iter().filter(|it| it.name != EXTENSION) {
            self.add(&outer.name, inner, text);
        }
    }

    fn add(&mut self, outer: &str, member: &Member<Cow<'_, str>>, text: &str) {
        if self.0.iter().any(|it| *it.outer == *outer && *it.name == *member.name) {
            return;
        }
        let text = Span { start: member.key.start, end: member.value.end }.of(text);
        self.0.push(Extra { outer: outer.into(), name: (*member.name).into(), text: text.into() });
    }

    /// A `ServerCapabilities` object with these features and, where there is room for it, all
    /// of this.
    pub fn beside(&self, features: Features) -> String {
        let mut object = features.to_json();
        for outer in OUTER.iter().map(|(name, _)| *name).chain(OPEN) {
            let whole = Span { start: 0, end: object.len() };
            let inner = self.texts(outer);
            object = match member(&object, whole, outer) {
                Some(span) => append(&object, span, &inner),
                None if inner.is_empty() || !OPEN.contains(&outer) => object,
                None => append(&object, whole, &format!("\"{outer}\":{{{inner}}}")),
            };
        }
        let whole = Span { start: 0, end: object.len() };
        append(&object, whole, &self.texts(""))
    }

    fn texts(&self, outer: &str) -> String {
        let texts = self.0.iter().filter(|it| *it.outer == *outer).map(|it| &*it.text);
        texts.collect::<Vec<_>>().join(",")
    }
}

/// `text` with `added` as the last members of the object at `span`.
fn append(text: &str, span: Span, added: &str) -> String {
    if added.is_empty() {
        return text.to_owned();
    }
    let comma = if members(text, span).is_empty() { "" } else { "," };
    let edit = (Span::at(span.end.saturating_sub(1)), format!("{comma}{added}"));
    String::from_utf8(splice(text.as_bytes(), &[edit]).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::feature::Feature;

    const ONE: &str = r#"{"tools":{"x" : 1.0,"listChanged":true},"tasks":{"list":{}},"extensions":{"a/ui":{"v":1E2},"io.modelcontextprotocol/tasks":{"q":1}}, "experimental" : {"e":null}, "vendor": [1], "resources":{"y":2}}"#;

    #[test]
    fn an_only_server_is_shown_with_all_that_it_wrote() {
        let one = Beyond::of_one(ONE);
        let tools = Features::NONE.with(Feature::Tools);
        let expected = r#"{"tools":{"x" : 1.0},"extensions":{"a/ui":{"v":1E2}},"experimental":{"e":null},"vendor": [1]}"#;
        assert_eq!(one.beside(tools), expected);
        let more = one.beside(tools.with(Feature::TasksExtension).with(Feature::Resources));
        let expected = r#""resources":{"y":2},"extensions":{"io.modelcontextprotocol/tasks":{},"a/ui":{"v":1E2}}"#;
        assert!(more.contains(expected), "{more}");
        assert_eq!(Beyond::default().beside(tools), tools.to_json());
        assert_eq!(
            Beyond::of_one(r#"{"experimental":7}"#).beside(Features::NONE),
            r#"{"experimental":7}"#
        );
    }

    #[test]
    fn of_several_servers_the_first_is_believed() {
        let others = [ONE, "[]", r#"{"extensions":{"a/ui":2,"b/x":3},"experimental":7,"w":1}"#];
        let all = Beyond::of_several(others.into_iter());
        let expected = r#"{"extensions":{"a/ui":{"v":1E2},"b/x":3},"experimental":{"e":null}}"#;
        assert_eq!(all.beside(Features::NONE), expected);
        assert_eq!(identifiers(ONE), ["a/ui".into(), "e".into()]);
    }

    #[test]
    fn what_is_too_large_is_cut_down_to_what_we_know() {
        assert_eq!(kept(ONE), ONE);
        let large = format!(r#"{{"tools":{{}},"x":"{}"}}"#, "y".repeat(KEPT_MAX));
        assert_eq!(kept(&large), r#"{"tools":{}}"#);
    }
}
