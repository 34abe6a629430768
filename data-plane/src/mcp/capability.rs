//! Client capabilities as a small set: what decides which tools a caller sees.

use super::{
    object::{Span, members},
    task::EXTENSION,
};

/// The capabilities a client declared, of those that matter to a catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capabilities(u64);

/// As a client declares it: `extensions` with the extension in it.
pub(super) const TASKS: &str = "extensions.io.modelcontextprotocol/tasks";
/// Names in the order of their bits; the order is part of sealed session ids.
const NAMES: [&str; 9] = [
    "sampling",
    "elicitation",
    "roots",
    "elicitation.url",
    "sampling.tools",
    "elicitation.form",
    "sampling.context",
    "roots.listChanged",
    TASKS,
];
/// Capabilities with what may be inside them, in the order in which they are written.
pub(super) const NESTED: [(&str, &[(&str, &str)]); 4] = [
    ("sampling", &[("context", "{}"), ("tools", "{}")]),
    ("elicitation", &[("form", "{}"), ("url", "{}")]),
    ("roots", &[("listChanged", "true")]),
    ("extensions", &[(EXTENSION, "{}")]),
];
/// A need that we do not know, which no client meets.
const UNMET: u64 = 1 << 63;

impl Capabilities {
    pub const NONE: Self = Self(0);

    /// Reads a `ClientCapabilities` object at `span` of `text`.
    pub fn read(text: &str, span: Span) -> Self {
        let mut set = Self::NONE;
        for member in members(text, span) {
            if !member.value.of(text).starts_with('{') {
                continue;
            }
            set = set.with(&member.name);
            for inner in members(text, member.value) {
                if !matches!(inner.value.of(text), "null" | "false") {
                    set = set.with(&format!("{}.{}", member.name, inner.name));
                }
            }
        }
        set
    }

    /// What a tool needs, by capability names; an unknown one is met by nobody.
    pub fn needs<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        let bit = |name: &String| bit(name).unwrap_or(UNMET);
        Self(names.into_iter().map(bit).fold(0, std::ops::BitOr::bitor))
    }

    /// The set of a sealed session id.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & !UNMET)
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn contains(self, needs: Self) -> bool {
        self.0 & needs.0 == needs.0
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The set of these names; unknown ones are left out.
    pub fn of(names: &[&str]) -> Self {
        names.iter().fold(Self::NONE, |set, name| set.with(name))
    }

    /// Everything that we can pass on.
    pub fn all() -> Self {
        Self::of(&NAMES)
    }

    /// The tasks extension alone.
    pub fn tasks() -> Self {
        Self::of(&[TASKS])
    }

    /// Without extensions, which an `initialize` does not carry.
    #[must_use]
    pub fn of_handshake(self) -> Self {
        Self(self.0 & !Self::tasks().0)
    }

    /// As a `ClientCapabilities` object, JSON text.
    pub fn to_json(self) -> String {
        let has = |name: &str| bit(name).is_some_and(|bit| self.0 & bit != 0);
        let outer = NESTED.iter().filter_map(|(outer, inner)| {
            let inner: Vec<_> = inner
                .iter()
                .filter(|(name, _)| has(&format!("{outer}.{name}")))
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            let is_declared = has(outer) || !inner.is_empty();
            is_declared.then(|| format!("\"{outer}\":{{{}}}", inner.join(",")))
        });
        format!("{{{}}}", outer.collect::<Vec<_>>().join(","))
    }

    fn with(self, name: &str) -> Self {
        Self(self.0 | bit(name).unwrap_or(0))
    }
}

fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|known| *known == name).map(|at| 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Capabilities {
        Capabilities::read(text, Span { start: 0, end: text.len() })
    }

    #[test]
    fn declared_objects_count_and_nothing_else() {
        let text = r#"{"sampling":{"tools":{}},"roots":{"listChanged":true},"elicitation":null}"#;
        let expected = r#"{"sampling":{"tools":{}},"roots":{"listChanged":true}}"#;
        assert_eq!(read(text).to_json(), expected);
        assert_eq!(read(r#"{"roots":{"listChanged":false}}"#).to_json(), r#"{"roots":{}}"#);
        assert_eq!(read("[]"), Capabilities::NONE);
        let text = r#"{"extensions":{"x/y":{},"io.modelcontextprotocol/tasks":{"a":1}}}"#;
        let expected = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        assert_eq!(read(text).to_json(), expected);
        assert_eq!(read(text), Capabilities::tasks());
        assert_eq!(Capabilities::all().of_handshake().or(read(text)), Capabilities::all());
    }

    #[test]
    fn a_need_is_met_by_those_who_have_it() {
        let needs = Capabilities::needs(&["sampling".to_owned()]);
        assert!(read(r#"{"sampling":{}}"#).contains(needs));
        assert!(!read(r#"{"elicitation":{}}"#).contains(needs));
        let unknown = Capabilities::needs(&["telepathy".to_owned()]);
        assert!(!Capabilities::from_bits(u64::MAX).contains(unknown));
    }
}
