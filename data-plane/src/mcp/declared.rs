//! What clients declare beyond what we know: kept as they wrote it, without what cannot be
//! carried.

use std::{borrow::Cow, sync::Arc};

use super::{
    Capabilities,
    capability::NESTED,
    message::splice,
    object::{Cursor, Span, Unreadable, cuts, member, members},
    task::EXTENSION,
};

/// Largest `ClientCapabilities` object that is read, in bytes.
const READ_MAX: usize = 16 * 1024;
/// Largest one that is kept with a session, in bytes: it travels in the session's id.
pub const KEPT_MAX: usize = 2 * 1024;
/// A capability of legacy clients that is not bridged.
const CLIENT_TASKS: &str = "tasks";
/// The member that extensions are in.
const HOLDER: &str = "extensions";

/// Why a `ClientCapabilities` object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undeclarable {
    #[error("client capabilities must not be larger than 16 KiB")]
    TooLarge,
    #[error("client capabilities that are kept with a session must not be larger than 2 KiB")]
    TooLargeToKeep,
    #[error("client capabilities have a key twice")]
    Twice,
}

/// What a client declares towards one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub known: Capabilities,
    /// As the client wrote it, if there is more in it than `known`.
    pub written: Option<Arc<str>>,
}

impl From<Capabilities> for Declared {
    fn from(known: Capabilities) -> Self {
        Self { known, written: None }
    }
}

impl Declared {
    /// Reads what an `initialize` declares, for as long as its session lives.
    pub fn of_handshake(text: &str, span: Span) -> Result<Self, Undeclarable> {
        let known = read(text, span)?.of_handshake();
        if !says_more(text, span) {
            return Ok(known.into());
        }
        let object = span.of(text);
        let written = carried(object, known).map_or(Cow::Borrowed(object), Cow::Owned);
        if written.len() > KEPT_MAX {
            return Err(Undeclarable::TooLargeToKeep);
        }
        Ok(Self { known, written: Some(written.into()) })
    }

    /// As a `ClientCapabilities` object, JSON text.
    pub fn to_json(&self) -> String {
        match &self.written {
            None => self.known.to_json(),
            Some(written) => carried(written, self.known).unwrap_or_else(|| (**written).to_owned()),
        }
    }
}

/// Reads a `ClientCapabilities` object at `span` of `text`, unless readers might differ about it.
pub fn read(text: &str, span: Span) -> Result<Capabilities, Undeclarable> {
    let object = span.of(text);
    if object == "{}" {
        return Ok(Capabilities::NONE);
    }
    if object.len() > READ_MAX {
        return Err(Undeclarable::TooLarge);
    }
    if has_duplicates(text, span) {
        return Err(Undeclarable::Twice);
    }
    Ok(Capabilities::read(text, span))
}

/// Whether a key comes twice in the object or in one of those inside it.
fn has_duplicates(text: &str, span: Span) -> bool {
    let mut is_twice = false;
    let outer = Cursor::starting_at(text, span.start).object(|cursor, _, _| {
        if cursor.peek() != Some(b'{') {
            return cursor.value().map(|_| ());
        }
        let inner = cursor.object(|cursor, _, _| cursor.value().map(|_| ()))?;
        is_twice |= inner.has_duplicates;
        Ok::<(), Unreadable>(())
    });
    is_twice || outer.is_ok_and(|outer| outer.has_duplicates)
}

/// Whether a client that declares this knows an extension or an experiment that we do not know.
pub fn has_extensions(text: &str, span: Span) -> bool {
    let object = span.of(text).as_bytes();
    let has = |name: &[u8]| memchr::memmem::find(object, name).is_some();
    // Nearly all declare none.
    (has(b"\"extensions\"") || has(b"\"experimental\"")) && says_more(text, span)
}

/// Whether there is anything in the object that [`Capabilities`] does not hold.
fn says_more(text: &str, span: Span) -> bool {
    members(text, span).iter().any(|outer| {
        let known = NESTED.iter().find(|(name, _)| *name == outer.name);
        let Some((_, inner_known)) = known else { return outer.name != CLIENT_TASKS };
        members(text, outer.value).iter().any(|inner| {
            let is_known = inner_known.iter().any(|(name, _)| *name == inner.name);
            let is_plain = || members(text, inner.value).is_empty();
            !is_known || (inner.name != EXTENSION && !is_plain())
        })
    })
}

/// A `ClientCapabilities` object that declares of what we know exactly `wanted`, all else in it
/// as it stands; `None`: it does already.
pub fn carried(object: &str, wanted: Capabilities) -> Option<String> {
    if object == "{}" && wanted == Capabilities::NONE {
        return None;
    }
    let whole = Span { start: 0, end: object.len() };
    let missing = wanted.without(Capabilities::read(object, whole));
    if missing == Capabilities::tasks() {
        let object = with_tasks(object);
        return Some(carried(&object, wanted).unwrap_or(object));
    }
    if missing != Capabilities::NONE {
        // Nothing else is ever declared for a client that does not declare it itself.
        return Some(wanted.to_json());
    }
    let outer = members(object, whole);
    let is_wanted = |name: &str| wanted.contains(Capabilities::of(&[name]));
    let is_object = |span: Span| span.of(object).starts_with('{');
    let is_dropped = |name: &str, value: Span| {
        let is_known = NESTED.iter().any(|(known, _)| *known == name && *known != HOLDER);
        name == CLIENT_TASKS || (is_known && is_object(value) && !is_wanted(name))
    };
    let mut dropped = cuts(&outer, |it| is_dropped(&it.name, it.value));
    for it in outer.iter().filter(|it| !is_dropped(&it.name, it.value)) {
        let Some((_, known)) = NESTED.iter().find(|(name, _)| *name == it.name) else { continue };
        let is_kept = |name: &str| {
            let is_known = known.iter().any(|(known, _)| *known == name);
            !is_known || is_wanted(&format!("{}.{name}", it.name))
        };
        dropped.extend(cuts(&members(object, it.value), |inner| !is_kept(&inner.name)));
    }
    if dropped.is_empty() {
        return None;
    }
    let edits: Vec<_> = dropped.into_iter().map(|cut| (cut, "")).collect();
    String::from_utf8(splice(object.as_bytes(), &edits).into()).ok()
}

/// The object with the tasks extension in it.
fn with_tasks(object: &str) -> String {
    let whole = Span { start: 0, end: object.len() };
    let extensions = member(object, whole, "extensions");
    let extensions = extensions.filter(|span| span.of(object).starts_with('{'));
    let (holder, text) = match extensions {
        Some(span) => (span, format!(r#""{EXTENSION}":{{}}"#)),
        None => (whole, format!(r#""{HOLDER}":{{"{EXTENSION}":{{}}}}"#)),
    };
    let comma = if members(object, holder).is_empty() { "" } else { "," };
    let edit = (Span::at(holder.start + 1), format!("{text}{comma}"));
    String::from_utf8(splice(object.as_bytes(), &[edit]).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::capability::TASKS;

    fn whole(text: &str) -> Span {
        Span { start: 0, end: text.len() }
    }

    const UI: &str = r#""extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"],"v":1.0}}"#;

    #[track_caller]
    fn check(object: &str, wanted: &[&str], expected: &str) {
        let carried = carried(object, Capabilities::of(wanted));
        assert_eq!(carried.as_deref().unwrap_or(object), expected);
        assert_eq!(carried.is_none(), expected == object);
    }

    #[test]
    fn what_is_not_known_stays_as_it_stands() {
        let object = format!(r#"{{ {UI} , "experimental":{{"x":1e2}},"sampling" : {{"a":null}}}}"#);
        check(&object, &["sampling"], &object);
        check(&object, &[], &object.replace(r#","sampling" : {"a":null}"#, ""));
        check("{}", &[], "{}");
    }

    #[test]
    fn what_cannot_be_carried_goes_alone() {
        let object = r#"{"roots":{"listChanged":true,"x":2},"tasks":{"list":{}},"y":0}"#;
        check(object, &["roots"], r#"{"roots":{"x":2},"y":0}"#);
        let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#;
        check(tasks, &[], r#"{"extensions":{"a/b":{}}}"#);
        check(tasks, &[TASKS], tasks);
        check(r#"{"roots":null}"#, &[], r#"{"roots":null}"#);
    }

    #[test]
    fn tasks_are_declared_for_those_who_cannot_say_it() {
        let tasks = r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#;
        check("{}", &[TASKS], &format!("{{{tasks}}}"));
        check(r#"{"tasks":{}}"#, &[TASKS], &format!("{{{tasks}}}"));
        check(r#"{"x":1}"#, &[TASKS], &format!(r#"{{{tasks},"x":1}}"#));
        let both = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#;
        check(r#"{"extensions":{"a/b":{}}}"#, &[TASKS], both);
    }

    #[test]
    fn only_what_says_more_is_kept_with_a_session() {
        let declared = |text: &str| Declared::of_handshake(text, whole(text));
        for plain in [
            "{}",
            r#"{ "roots": {"listChanged": true}, "sampling":{} }"#,
            r#"{"elicitation":{"form":{ },"url":{}},"tasks":{"list":{}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{"a":1}}}"#,
        ] {
            assert_eq!(declared(plain).unwrap().written, None, "{plain}");
        }
        let more = format!(r#"{{"roots":{{}},{UI},"tasks":{{"list":{{}}}}}}"#);
        let kept = declared(&more).unwrap();
        assert_eq!(kept.to_json(), format!(r#"{{"roots":{{}},{UI}}}"#));
        assert!(declared(r#"{"sampling":{"tools":{"x":1}}}"#).unwrap().written.is_some());
        let large = |size| format!(r#"{{"x":"{}"}}"#, "y".repeat(size));
        assert!(declared(&large(KEPT_MAX - 8)).is_ok());
        assert_eq!(declared(&large(KEPT_MAX)), Err(Undeclarable::TooLargeToKeep));
        assert_eq!(declared(&large(READ_MAX)), Err(Undeclarable::TooLarge));
    }

    #[test]
    fn what_readers_might_differ_about_is_refused() {
        for text in [
            r#"{"roots":{},"roots":null}"#,
            r#"{"roots":{},"\u0072oots":{}}"#,
            r#"{"extensions":{"a/b":{},"a/b":1}}"#,
            r#"{"experimental":{"x":1,"x":2}}"#,
        ] {
            assert_eq!(read(text, whole(text)), Err(Undeclarable::Twice), "{text}");
        }
    }

    fn object() -> impl Strategy<Value = String> {
        let inner = prop::sample::subsequence(
            vec!["\"tools\":{}", "\"url\":{ }", "\"listChanged\":true", "\"x/y\":1.0"],
            0..=4,
        );
        let names = prop::sample::subsequence(
            vec!["sampling", "elicitation", "roots", "tasks", "extensions", "experimental", "v"],
            0..=7,
        );
        (names, inner).prop_map(|(names, inner)| {
            let inner = inner.join(" , ");
            let all: Vec<_> = names.iter().map(|name| format!("\"{name}\": {{{inner}}}")).collect();
            format!("{{ {} }}", all.join(", "))
        })
    }

    proptest! {
        #[test]
        fn exactly_what_is_wanted_is_declared(object in object(), has_tasks in any::<bool>()) {
            let have = Capabilities::read(&object, whole(&object));
            let wanted = have.without(Capabilities::of(&["roots.listChanged", "sampling.tools"]));
            let tasks = if has_tasks { Capabilities::tasks() } else { Capabilities::NONE };
            let wanted = wanted.or(tasks);
            let out = carried(&object, wanted).unwrap_or_else(|| object.clone());
            prop_assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{}", out);
            prop_assert_eq!(Capabilities::read(&out, whole(&out)), wanted);
            let count = |text: &str| text.matches("\"x/y\":1.0").count();
            let of_tasks = usize::from(object.contains("\"tasks\": ") && object.contains("x/y"));
            prop_assert_eq!(count(&out), count(&object) - of_tasks);
        }
    }
}
