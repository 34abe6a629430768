//! The HTTP request of a REST tool, from its binding and a call's arguments. Pure.

use std::fmt;

use bytes::Bytes;
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proto::RestBinding;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Everything but RFC 3986 unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is wrong with a call's arguments, in words for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadArguments {
    #[error("the arguments are not a JSON object")]
    NotAnObject,
    #[error("argument `{0}` is missing: it is part of the URL")]
    Missing(String),
    #[error("argument `{0}` is part of the URL and must be a text, a number or a boolean")]
    NotScalar(String),
    #[error("argument `{0}` is part of the URL's path and must not be empty")]
    Empty(String),
    #[error("argument `{0}` would leave the URL's path with `.` or `..`")]
    Dots(String),
    #[error("the arguments make a URL that is not valid")]
    BadUrl,
}

/// Where to send what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// JSON; `None` for methods without body.
    pub(crate) body: Option<Bytes>,
}

/// Arguments in their order, values as written.
struct Arguments<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Arguments)
    }
}

/// Fills the placeholders; the rest of the arguments becomes the query or the body.
pub(crate) fn target(binding: &RestBinding, arguments: &str) -> Result<Target, BadArguments> {
    let Arguments(mut rest) =
        serde_json::from_str(arguments).map_err(|_| BadArguments::NotAnObject)?;
    let mut url = fill(binding, &rest)?;
    let used = binding.placeholders();
    let is_untouched = used.is_empty();
    rest.retain(|(name, _)| !used.contains(&name.as_str()));
    let body = if binding.method.has_body() {
        // Without placeholders the body is what the client wrote, byte for byte.
        Some(if is_untouched { Bytes::from(arguments.to_owned()) } else { object(&rest) })
    } else {
        append_query(&mut url, &rest);
        None
    };
    let uri = url.parse().map_err(|_| BadArguments::BadUrl)?;
    Ok(Target { uri, body })
}

fn fill(binding: &RestBinding, arguments: &[(String, &RawValue)]) -> Result<String, BadArguments> {
    let mut url = String::with_capacity(binding.url.len() + 32);
    let mut pieces = binding.url.split('{');
    url.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (name, literal) = piece.split_once('}').unwrap_or((piece, ""));
        let value = arguments.iter().rev().find(|(argument, _)| argument == name);
        let (_, value) = value.ok_or_else(|| BadArguments::Missing(name.to_owned()))?;
        let value = scalar(value).ok_or_else(|| BadArguments::NotScalar(name.to_owned()))?;
        let in_path = !url.contains('?');
        // `DELETE /users/{id}` with an empty id would be `DELETE /users/`.
        if in_path && value.is_empty() {
            return Err(BadArguments::Empty(name.to_owned()));
        }
        url.extend(utf8_percent_encode(&value, ENCODED));
        url.push_str(literal);
        if in_path && has_dots(&url, &binding.url) {
            return Err(BadArguments::Dots(name.to_owned()));
        }
    }
    Ok(url)
}

/// Whether a segment of the path became `.` or `..` by filling.
fn has_dots(url: &str, template: &str) -> bool {
    let is_dots = |segment: &&str| matches!(*segment, "." | "..");
    let count = |text: &str| {
        let path = text.split('?').next().unwrap_or_default();
        path.split('/').filter(is_dots).count()
    };
    count(url) > count(template)
}

/// A value as text; `None` for null, arrays and objects.
fn scalar(value: &RawValue) -> Option<String> {
    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'[' | b'{' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

/// Arrays repeat their name, objects go as JSON text, null is left out.
fn append_query(url: &mut String, arguments: &[(String, &RawValue)]) {
    for (name, value) in arguments {
        let raw = value.get();
        match raw.as_bytes().first() {
            Some(b'n') | None => (),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
                for item in items {
                    let text = scalar(item).unwrap_or_else(|| item.get().to_owned());
                    append_pair(url, name, &text);
                }
            }
            Some(_) => {
                let text = scalar(value).unwrap_or_else(|| raw.to_owned());
                append_pair(url, name, &text);
            }
        }
    }
}

fn append_pair(url: &mut String, name: &str, value: &str) {
    if !url.contains('?') {
        url.push('?');
    } else if !url.ends_with(['?', '&']) {
        url.push('&');
    }
    url.extend(utf8_percent_encode(name, ENCODED));
    url.push('=');
    url.extend(utf8_percent_encode(value, ENCODED));
}

fn object(members: &[(String, &RawValue)]) -> Bytes {
    let mut out = String::from("{");
    for (name, value) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(name.as_str()).to_string());
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proto::RestMethod;

    use super::*;

    fn binding(method: RestMethod, url: &str) -> RestBinding {
        RestBinding { url: url.to_owned(), method, headers: BTreeMap::new() }
    }

    /// `METHOD url` and arguments to `uri body`, or what is wrong.
    #[track_caller]
    fn check(line: &str, arguments: &str, expected: &str) {
        let (method, url) = line.split_once(' ').unwrap();
        let binding = binding(method.parse().unwrap(), url);
        let found = match target(&binding, arguments) {
            Ok(Target { uri, body: None }) => uri.to_string(),
            Ok(Target { uri, body: Some(body) }) => {
                format!("{uri} {}", String::from_utf8(body.to_vec()).unwrap())
            }
            Err(bad) => bad.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn arguments_go_to_path_query_and_body() {
        check(
            "GET http://h/u/{id}",
            r#"{"id":7,"q":"a b&c","n":null}"#,
            "http://h/u/7?q=a%20b%26c",
        );
        check(
            "GET http://h/x?k=1",
            r#"{"tags":["a","é"],"deep":{"x":1.0}}"#,
            "http://h/x?k=1&tags=a&tags=%C3%A9&deep=%7B%22x%22%3A1.0%7D",
        );
        check("DELETE http://h/u/{id}", r#"{"id":"a/b?c"}"#, "http://h/u/a%2Fb%3Fc");
        check(
            "POST http://h/rpc",
            r#"{ "big": 12345678901234567890.10 }"#,
            r#"http://h/rpc { "big": 12345678901234567890.10 }"#,
        );
        check(
            "PUT http://h/u/{id}",
            r#"{"z":1,"id":"x","a":[1e2]}"#,
            r#"http://h/u/x {"z":1,"a":[1e2]}"#,
        );
        check(
            "PATCH http://h/{a}/{b}?q={q}",
            r#"{"a":true,"b":"B","q":""}"#,
            "http://h/true/B?q= {}",
        );
        check("GET http://h/x", "{}", "http://h/x");
    }

    #[test]
    fn an_argument_never_leaves_its_place() {
        let missing = "argument `id` is missing: it is part of the URL";
        check("GET http://h/u/{id}", "{}", missing);
        check("GET http://h/u/{id}", "[]", "the arguments are not a JSON object");
        let dots = "argument `id` would leave the URL's path with `.` or `..`";
        check("GET http://h/u/{id}/x", r#"{"id":".."}"#, dots);
        check("GET http://h/u/.{id}", r#"{"id":"."}"#, dots);
        check("GET http://h/u/{id}/v1.2", r#"{"id":"..."}"#, "http://h/u/.../v1.2");
        let empty = "argument `id` is part of the URL's path and must not be empty";
        check("DELETE http://h/u/{id}", r#"{"id":""}"#, empty);
        let scalar = "argument `id` is part of the URL and must be a text, a number or a boolean";
        check("GET http://h/u/{id}", r#"{"id":{"a":1}}"#, scalar);
        check("GET http://h/u/{id}", r#"{"id":null}"#, scalar);
    }

    proptest! {
        #[test]
        fn any_text_stays_one_segment_of_the_path(value in "\\PC{1,20}") {
            let arguments = serde_json::json!({ "id": value }).to_string();
            let binding = binding(RestMethod::Get, "http://h/u/{id}/end");
            match target(&binding, &arguments) {
                Ok(target) => {
                    prop_assert_eq!(target.uri.host(), Some("h"));
                    prop_assert_eq!(target.uri.query(), None);
                    prop_assert_eq!(target.uri.path().matches('/').count(), 3);
                }
                Err(bad) => prop_assert_eq!(bad, BadArguments::Dots("id".to_owned())),
            }
        }
    }
}
