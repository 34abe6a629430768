//! Renders list results from raw definitions: only names and URIs change.

use bytes::Bytes;
use proto::Era;

use super::{
    message::splice,
    object::{self, Cursor, Object, Span},
    response::{modern_tail, quote},
};

/// The lists of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    Tools,
    Prompts,
    Resources,
    ResourceTemplates,
}

impl ListKind {
    pub const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// The method that asks for it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
        }
    }

    /// The member of the result that holds it.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    /// The server capability that announces it.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::ResourceTemplates => "resources",
        }
    }

    /// The member of a definition that tells it from the others.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}

const EXECUTION: &str = "execution";
const OPTIONAL_TASK: &[u8] = br#""execution":{"taskSupport":"optional"},"#;

/// An MCP object as its server wrote it, with the places that a gateway touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    text: Box<str>,
    key: Span,
    /// Members that one era does not show, each with its comma.
    legacy_cuts: Box<[Span]>,
    modern_cuts: Box<[Span]>,
    /// It says nothing of tasks, and calls of it can be some for legacy clients too.
    may_be_task: bool,
    pub input_schema: Option<Span>,
    pub annotations: Option<Span>,
}

/// Why a definition cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("is not a JSON object")]
    NotAnObject,
    #[error("has a key twice")]
    Duplicate,
    #[error("has no `{0}`")]
    Unnamed(&'static str),
}

impl Definition {
    /// Reads a definition as it stands in lists of `kind`.
    pub fn read(text: &str, kind: ListKind) -> Result<Self, DefinitionError> {
        let mut cursor = Cursor::new(text);
        let mut members = Vec::new();
        let Object { has_duplicates, .. } = cursor
            .object(|cursor, name, key| {
                members.push(object::Member { name, key, value: cursor.value()? });
                Ok(())
            })
            .map_err(|_| DefinitionError::NotAnObject)?;
        if has_duplicates {
            return Err(DefinitionError::Duplicate);
        }
        let find = |name: &str| {
            members.iter().find(|member| member.name == name).map(|member| member.value)
        };
        // An output schema that is no object schema breaks legacy clients (MCP 2025-11-25, Tool).
        let is_object_schema = find("outputSchema").is_none_or(|schema| {
            object::member(text, schema, "type").is_some_and(|kind| kind.of(text) == "\"object\"")
        });
        let cuts = |dropped: &str| object::cuts(&members, |member| member.name == dropped);
        Ok(Self {
            key: find(kind.key()).ok_or(DefinitionError::Unnamed(kind.key()))?,
            legacy_cuts: if is_object_schema {
                Box::default()
            } else {
                cuts("outputSchema").into()
            },
            modern_cuts: cuts(EXECUTION).into(),
            may_be_task: false,
            input_schema: find("inputSchema"),
            annotations: find("annotations"),
            text: text.into(),
        })
    }

    /// The definition under the name or URI that clients see.
    pub fn render(&self, shown_as: &str, era: Era) -> Bytes {
        let cuts = match era {
            Era::Legacy => &self.legacy_cuts,
            Era::Modern => &self.modern_cuts,
        };
        let mut edits: Vec<(Span, &[u8])> = cuts.iter().map(|cut| (*cut, &b""[..])).collect();
        let quoted = quote(shown_as);
        if object::unquote(self.key.of(&self.text)).as_deref() != Some(shown_as) {
            edits.push((self.key, quoted.as_bytes()));
        }
        if let (Era::Legacy, true, Some(begin)) = (era, self.may_be_task, self.text.find('{')) {
            edits.push((Span::at(begin + 1), OPTIONAL_TASK));
        }
        splice(self.text.as_bytes(), &edits)
    }

    /// Tells legacy clients that calls can be tasks, which modern ones know without being told
    /// (MCP 2025-11-25, ToolExecution).
    pub fn offer_tasks(&mut self) {
        let whole = Span { start: 0, end: self.text.len() };
        self.may_be_task = object::member(&self.text, whole, EXECUTION).is_none();
    }

    /// The text under a span of this definition.
    pub fn of(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A whole result: what is listed, and where the next page begins (a JSON string). Modern
/// clients may keep it for `ttl_ms`.
pub fn result<'a>(
    kind: ListKind,
    items: impl Iterator<Item = (&'a str, &'a Definition)>,
    (era, ttl_ms): (Era, u32),
    next_cursor: Option<&str>,
) -> Bytes {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(match era {
        Era::Legacy => b"{\"",
        Era::Modern => br#"{"resultType":"complete",""#,
    });
    out.extend_from_slice(kind.member().as_bytes());
    out.extend_from_slice(b"\":[");
    for (index, (name, definition)) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&definition.render(name, era));
    }
    out.push(b']');
    if let Some(cursor) = next_cursor {
        out.extend_from_slice(format!(",\"nextCursor\":{}", quote(cursor)).as_bytes());
    }
    if era == Era::Modern {
        out.extend_from_slice(format!(",{}", modern_tail(ttl_ms)).as_bytes());
    }
    out.push(b'}');
    out.shrink_to_fit();
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Definition {
        Definition::read(text, ListKind::Tools).unwrap()
    }

    #[track_caller]
    fn check(definition: &str, era: Era, expected: &str) {
        assert_eq!(&*read(definition).render("u-echo", era), expected.as_bytes());
    }

    #[test]
    fn only_the_name_changes() {
        let text = r#"{ "x-vendor" : 1.0, "name":"echo" ,"inputSchema":{"$defs":{"n":1e2}}, "title":"\u00e9" }"#;
        let expected = text.replace("\"echo\"", "\"u-echo\"");
        check(text, Era::Legacy, &expected);
        check(text, Era::Modern, &expected);
    }

    #[test]
    fn a_uri_that_stays_keeps_its_spelling() {
        let text = r#"{"name":"n","uri":"a:\/\/\u0062","mimeType":"text/plain"}"#;
        let resource = Definition::read(text, ListKind::Resources).unwrap();
        assert_eq!(&*resource.render("a://b", Era::Modern), text.as_bytes());
        let marked = r#"{"name":"n","uri":"m:a://b","mimeType":"text/plain"}"#;
        assert_eq!(&*resource.render("m:a://b", Era::Legacy), marked.as_bytes());
    }

    #[test]
    fn each_era_is_spared_what_it_cannot_read() {
        let text = r#"{"execution":{"taskSupport":"optional"},"name":"echo","outputSchema":{"type":"array"}}"#;
        check(text, Era::Legacy, r#"{"execution":{"taskSupport":"optional"},"name":"u-echo"}"#);
        check(text, Era::Modern, r#"{"name":"u-echo","outputSchema":{"type":"array"}}"#);
        let text = r#"{"name":"echo","outputSchema":{"type":"object"}}"#;
        check(text, Era::Legacy, r#"{"name":"u-echo","outputSchema":{"type":"object"}}"#);
    }

    #[test]
    fn legacy_clients_are_told_that_a_tool_can_be_a_task_if_it_does_not_say_so() {
        let mut definition = read(r#"{ "name":"echo","x":1.0}"#);
        definition.offer_tasks();
        let expected = r#"{"execution":{"taskSupport":"optional"}, "name":"u-echo","x":1.0}"#;
        assert_eq!(definition.render("u-echo", Era::Legacy), expected);
        assert_eq!(definition.render("echo", Era::Modern), r#"{ "name":"echo","x":1.0}"#);
        let text = r#"{"name":"echo","execution":{"taskSupport":"forbidden"}}"#;
        let mut definition = read(text);
        definition.offer_tasks();
        assert_eq!(definition.render("echo", Era::Legacy), text);
    }

    #[test]
    fn ambiguous_definitions_are_refused() {
        let read = |text: &str, kind| Definition::read(text, kind).unwrap_err();
        assert_eq!(read(r#"{"name":"a","name":"b"}"#, ListKind::Tools), DefinitionError::Duplicate);
        assert_eq!(read("{}", ListKind::Prompts), DefinitionError::Unnamed("name"));
        assert_eq!(
            read(r#"{"uri":"x"}"#, ListKind::ResourceTemplates),
            DefinitionError::Unnamed("uriTemplate")
        );
        assert_eq!(read("[]", ListKind::Resources), DefinitionError::NotAnObject);
    }

    #[test]
    fn a_result_is_json_in_both_eras() {
        let definition = read(r#"{"name":"a"}"#);
        let tools = [("x", &definition), ("y", &definition)];
        let legacy = result(ListKind::Tools, tools.into_iter(), (Era::Legacy, 0), None);
        assert_eq!(&*legacy, br#"{"tools":[{"name":"x"},{"name":"y"}]}"#);
        let legacy =
            result(ListKind::Prompts, tools.into_iter().skip(1), (Era::Legacy, 0), Some("c\""));
        assert_eq!(&*legacy, br#"{"prompts":[{"name":"y"}],"nextCursor":"c\""}"#);
        for kind in ListKind::ALL {
            let modern = result(kind, tools.into_iter(), (Era::Modern, 60_000), Some("c"));
            let modern: serde_json::Value = serde_json::from_slice(&modern).unwrap();
            assert_eq!(modern["ttlMs"], 60_000);
            assert_eq!(modern["cacheScope"], "private");
            assert_eq!(modern["resultType"], "complete");
            assert_eq!(modern["nextCursor"], "c");
            assert_eq!(modern[kind.member()].as_array().unwrap().len(), 2);
        }
        let empty = result(ListKind::Resources, [].into_iter(), (Era::Modern, 0), None);
        assert!(serde_json::from_slice::<serde_json::Value>(&empty).is_ok());
    }
}
