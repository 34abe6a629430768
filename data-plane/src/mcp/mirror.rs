//! Mirror headers: which parameters of a tool travel as `Mcp-Param-*` too, and how
//! values are written in headers (MCP 2026-07-28, transports, header mirroring).

use std::{borrow::Cow, collections::BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Message,
    object::{Span, member, members, unquote},
};

/// One parameter that a schema marks with `x-mcp-header`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorParam {
    /// `mcp-param-{name}`, lower case.
    pub header: Box<str>,
    /// Names of properties from the root of the arguments.
    path: Box<[Box<str>]>,
}

const KEY: &str = "x-mcp-header";
const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// The mirrored parameters of an input schema; the error says why a client must drop the tool.
pub fn mirror_params(input_schema: &str) -> Result<Vec<MirrorParam>, String> {
    if !input_schema.contains(KEY) {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(input_schema).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let mut path = Vec::new();
    collect(&schema, &mut path, &mut found)?;
    let names: BTreeSet<_> = found.iter().map(|param| &param.header).collect();
    if names.len() != found.len() {
        return Err(format!("`{KEY}` names a header twice"));
    }
    // Whatever the walk along `properties` did not reach is in a place that does not count.
    if count(&schema) != found.len() {
        return Err(format!("`{KEY}` stands where it cannot be reached through `properties`"));
    }
    Ok(found)
}

fn collect(
    schema: &Value,
    path: &mut Vec<Box<str>>,
    found: &mut Vec<MirrorParam>,
) -> Result<(), String> {
    if let Some(name) = schema.get(KEY).filter(|_| !path.is_empty()) {
        let name = name.as_str().filter(|name| is_token(name));
        let name = name.ok_or_else(|| format!("`{KEY}` is not a header name"))?;
        if !matches!(
            schema.get("type").and_then(Value::as_str),
            Some("string" | "integer" | "boolean")
        ) {
            return Err(format!("`{KEY}: {name}` is on no string, integer or boolean"));
        }
        let header = format!("mcp-param-{}", name.to_ascii_lowercase()).into();
        found.push(MirrorParam { header, path: path.as_slice().into() });
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (name, property) in properties {
        path.push(name.as_str().into());
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// How often the key stands anywhere as a keyword, i.e. not as the name of a property.
fn count(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                (KEY, _) => 1,
                (
                    "properties" | "$defs" | "definitions" | "patternProperties",
                    Value::Object(named),
                ) => named.values().map(count).sum(),
                ("const" | "default" | "enum" | "examples", _) => 0,
                (_, value) => count(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

impl MirrorParam {
    /// The value in the arguments at `span` of `text`, decoded; `None` if absent or null.
    pub fn value_in<'a>(&self, text: &'a str, arguments: Span) -> Option<Cow<'a, str>> {
        let mut at = arguments;
        for name in &self.path {
            at = member(text, at, name)?;
        }
        match at.of(text) {
            "null" => None,
            raw => Some(unquote(raw).unwrap_or(Cow::Borrowed(raw))),
        }
    }
}

/// A value as it is written in a header.
pub fn encode(value: &str) -> Cow<'_, str> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' ' | b'\t' | 0x21..=0x7e))
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with(OPEN) && value.ends_with(CLOSE));
    if is_plain {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("{OPEN}{}{CLOSE}", STANDARD.encode(value)))
}

/// The value that a header stands for; `None` if it is not written by the rules.
pub fn decode(header: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(header).ok()?.trim_matches([' ', '\t']);
    if !text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | 0x21..=0x7e)) {
        return None;
    }
    let Some(coded) = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) else {
        return Some(Cow::Borrowed(text));
    };
    String::from_utf8(STANDARD.decode(coded).ok()?).ok().map(Cow::Owned)
}

/// What a `Mcp-Name` header says, if a parameter of the request says the same.
pub fn of_params(header: &[u8], message: &Message) -> Option<Box<str>> {
    let said = decode(header)?;
    let params = members(message.text(), message.params()?.span?);
    let is_said = |value: Span| unquote(value.of(message.text())).as_deref() == Some(&*said);
    params.iter().any(|it| is_said(it.value)).then(|| said.into())
}

/// Whether a decoded header value says what the body says; numbers count, not spellings.
pub fn is_same(header: &str, body: &str) -> bool {
    header == body || matches!((integer(header), integer(body)), (Some(a), Some(b)) if a == b)
}

/// `42`, `42.0` and `-7` as integers, without going through a float.
fn integer(text: &str) -> Option<i128> {
    let whole = text.split_once('.').map_or(Some(text), |(whole, fraction)| {
        (!fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0')).then_some(whole)
    })?;
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| whole.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(properties: &str) -> Result<Vec<String>, String> {
        let params = mirror_params(&format!(r#"{{"type":"object",{properties}}}"#))?;
        Ok(params.iter().map(|param| param.header.to_string()).collect())
    }

    #[test]
    fn marked_properties_are_found_at_any_depth() {
        let found = headers(
            r#""properties":{"a":{"type":"string","x-mcp-header":"Region"},
               "o":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"n"}}},
               "x-mcp-header":{"type":"string"}}"#,
        );
        assert_eq!(found.unwrap(), ["mcp-param-region", "mcp-param-n"]);
    }

    #[test]
    fn a_mark_in_the_wrong_place_makes_the_tool_invalid() {
        for bad in [
            r#""properties":{"a":{"type":"number","x-mcp-header":"A"}}"#,
            r#""properties":{"a":{"type":"string","x-mcp-header":""}}"#,
            r#""properties":{"a":{"type":"string","x-mcp-header":"a b"}}"#,
            r#""properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}"#,
            r#""properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}"#,
            r#""oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]"#,
            r#""$defs":{"a":{"type":"string","x-mcp-header":"A"}}"#,
            r#""x-mcp-header":"A""#,
        ] {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_taken_from_the_arguments() {
        let params = mirror_params(
            r#"{"properties":{"o":{"properties":{"n":{"type":"integer","x-mcp-header":"n"}}}}}"#,
        )
        .unwrap();
        let value = |text: &str| {
            let span = Span { start: 0, end: text.len() };
            params[0].value_in(text, span).map(Cow::into_owned)
        };
        assert_eq!(value(r#"{"o":{"n":42}}"#).as_deref(), Some("42"));
        assert_eq!(value(r#"{"o":{"n":null}}"#), None);
        assert_eq!(value(r#"{"o":{}}"#), None);
        assert_eq!(value("[]"), None);
    }

    #[test]
    fn header_values_are_written_by_the_rules() {
        assert_eq!(encode("plain text"), "plain text");
        assert_eq!(encode("é"), "=?base64?w6k=?=");
        assert_eq!(encode(" x"), "=?base64?IHg=?=");
        assert_eq!(encode("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
        assert_eq!(decode(b" x "), Some(Cow::Borrowed("x")));
        assert_eq!(decode(b"=?base64?dGVzdF9zaW1wbGVfdGV4dA==?=").unwrap(), "test_simple_text");
        assert_eq!(decode(b"=?base64?dGVzdA?="), None);
        assert_eq!(decode(b"=?base64?!!!!?="), None);
        assert_eq!(decode(b"dGVzdA=="), Some(Cow::Borrowed("dGVzdA==")));
        assert_eq!(decode("é".as_bytes()), None);
    }

    #[test]
    fn integers_are_compared_as_numbers() {
        assert!(is_same("42.0", "42"));
        assert!(is_same("true", "true"));
        assert!(!is_same("42", "43"));
        assert!(!is_same("9007199254740993", "9007199254740992"));
        assert!(!is_same("True", "true"));
    }

    proptest! {
        #[test]
        fn every_value_survives_its_header(value in any::<String>()) {
            let encoded = encode(&value);
            prop_assert_eq!(decode(encoded.as_bytes()).unwrap(), &*value);
        }
    }
}
