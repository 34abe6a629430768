//! Renders `tools/list` results from raw definitions: only names change.

use bytes::Bytes;
use proto::Era;

use super::{
    message::splice,
    object::{Object, Span},
    response::{modern_tail, quote},
};

/// A tool object as its server wrote it, with the places that a gateway touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    text: Box<str>,
    name: Span,
    /// Members that one era does not show, each with its comma.
    legacy_cuts: Box<[Span]>,
    modern_cuts: Box<[Span]>,
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
    #[error("has no `name`")]
    Unnamed,
}

impl Definition {
    pub fn read(text: &str) -> Result<Self, DefinitionError> {
        let mut cursor = super::object::Cursor::new(text);
        let mut members = Vec::new();
        let Object { has_duplicates, .. } = cursor
            .object(|cursor, name, key| {
                members.push(super::object::Member { name, key, value: cursor.value()? });
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
            super::object::member(text, schema, "type")
                .is_some_and(|kind| kind.of(text) == "\"object\"")
        });
        let cuts = |dropped: &str| super::object::cuts(&members, |member| member.name == dropped);
        Ok(Self {
            name: find("name").ok_or(DefinitionError::Unnamed)?,
            legacy_cuts: if is_object_schema {
                Box::default()
            } else {
                cuts("outputSchema").into()
            },
            modern_cuts: cuts("execution").into(),
            input_schema: find("inputSchema"),
            annotations: find("annotations"),
            text: text.into(),
        })
    }

    /// The definition under the name that clients see.
    pub fn render(&self, name: &str, era: Era) -> Bytes {
        let name = quote(name);
        let cuts = match era {
            Era::Legacy => &self.legacy_cuts,
            Era::Modern => &self.modern_cuts,
        };
        let mut edits: Vec<(Span, &[u8])> = vec![(self.name, name.as_bytes())];
        edits.extend(cuts.iter().map(|cut| (*cut, &b""[..])));
        splice(self.text.as_bytes(), &edits)
    }

    /// The text under a span of this definition.
    pub fn of(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The whole result: all tools in one page.
pub fn tools_result<'a>(tools: impl Iterator<Item = (&'a str, &'a Definition)>, era: Era) -> Bytes {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(match era {
        Era::Legacy => br#"{"tools":["#,
        Era::Modern => br#"{"resultType":"complete","tools":["#,
    });
    for (index, (name, definition)) in tools.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&definition.render(name, era));
    }
    match era {
        Era::Legacy => out.extend_from_slice(b"]}"),
        Era::Modern => out.extend_from_slice(format!("],{}}}", modern_tail()).as_bytes()),
    }
    out.shrink_to_fit();
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(definition: &str, era: Era, expected: &str) {
        let definition = Definition::read(definition).unwrap();
        assert_eq!(&*definition.render("u-echo", era), expected.as_bytes());
    }

    #[test]
    fn only_the_name_changes() {
        let text = r#"{ "x-vendor" : 1.0, "name":"echo" ,"inputSchema":{"$defs":{"n":1e2}}, "title":"\u00e9" }"#;
        let expected = text.replace("\"echo\"", "\"u-echo\"");
        check(text, Era::Legacy, &expected);
        check(text, Era::Modern, &expected);
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
    fn ambiguous_definitions_are_refused() {
        let read = |text: &str| Definition::read(text).unwrap_err();
        assert_eq!(read(r#"{"name":"a","name":"b"}"#), DefinitionError::Duplicate);
        assert_eq!(read("{}"), DefinitionError::Unnamed);
        assert_eq!(read("[]"), DefinitionError::NotAnObject);
    }

    #[test]
    fn a_result_is_json_in_both_eras() {
        let definition = Definition::read(r#"{"name":"a"}"#).unwrap();
        let tools = [("x", &definition), ("y", &definition)];
        let legacy = tools_result(tools.into_iter(), Era::Legacy);
        assert_eq!(&*legacy, br#"{"tools":[{"name":"x"},{"name":"y"}]}"#);
        let modern = tools_result(tools.into_iter(), Era::Modern);
        let modern: serde_json::Value = serde_json::from_slice(&modern).unwrap();
        assert_eq!(modern["ttlMs"], 60_000);
        assert_eq!(modern["cacheScope"], "private");
        assert_eq!(modern["resultType"], "complete");
        assert!(
            serde_json::from_slice::<serde_json::Value>(&tools_result([].into_iter(), Era::Modern))
                .is_ok()
        );
    }
}
