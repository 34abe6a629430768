//! Reading bodies as generously as ContextForge's versions did together: bare or
//! wrapped, camelCase or snake_case, lists or comma-separated text.

use std::collections::HashMap;

use axum::body::Bytes;
use proto::{Invalid, name::slug};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::rest::error::RestError;

/// Reads an object that may be wrapped as `{"tool": {…}}`.
pub(crate) fn read<T: DeserializeOwned>(body: &Bytes, wrapper: &str) -> Result<T, RestError> {
    let outer: HashMap<String, Box<RawValue>> = serde_json::from_slice(body)?;
    match outer.get(wrapper).filter(|inner| inner.get().starts_with('{')) {
        Some(inner) => Ok(serde_json::from_str(inner.get())?),
        None => Ok(serde_json::from_slice(body)?),
    }
}

/// A list, or text with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Listed {
    Items(Vec<String>),
    Text(String),
}

impl Listed {
    pub(crate) fn items(self) -> Vec<String> {
        let items = match self {
            Self::Items(items) => items,
            Self::Text(text) => text.split(',').map(str::to_owned).collect(),
        };
        items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }
}

/// A name as our registry takes it, and the title that keeps the text given.
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) title: String,
}

/// Any text is a name for ContextForge; ours is its slug where it has to be.
pub(crate) fn called<N>(name: Option<String>) -> Result<Called, Invalid>
where
    N: std::str::FromStr,
{
    let text = name.map(|name| name.trim().to_owned()).unwrap_or_default();
    if text.is_empty() {
        return Err(Invalid::missing("name"));
    }
    if text.parse::<N>().is_ok() {
        return Ok(Called { name: text, title: String::new() });
    }
    let slug: String = slug(&text).chars().take(proto::name::NAME_MAX).collect();
    let name = slug.trim_end_matches('-').to_owned();
    if name.is_empty() {
        return Err(Invalid::new("name", "has no letter or digit of ASCII"));
    }
    Ok(Called { name, title: text })
}

#[cfg(test)]
mod tests {
    use proto::ToolName;

    use super::*;

    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Thing {
        name: String,
    }

    #[test]
    fn bare_and_wrapped_bodies_are_read() {
        let thing = Thing { name: "x".to_owned() };
        let bare = Bytes::from(r#"{"name":"x"}"#);
        assert_eq!(read::<Thing>(&bare, "tool").ok(), Some(thing.clone()));
        let wrapped = Bytes::from(r#"{"tool":{"name":"x"},"team_id":null}"#);
        assert_eq!(read::<Thing>(&wrapped, "tool").ok(), Some(thing));
        for wrong in ["{", "[]", r#"{"name":1}"#, ""] {
            let refused = read::<Thing>(&Bytes::from(wrong), "tool");
            assert!(matches!(refused, Err(RestError::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn valid_names_stay_and_others_become_titles() {
        let plain = called::<ToolName>(Some("clock_tool".to_owned())).unwrap();
        assert_eq!((plain.name.as_str(), plain.title.as_str()), ("clock_tool", ""));
        let free = called::<ToolName>(Some(" Bob's Clock! ".to_owned())).unwrap();
        assert_eq!((free.name.as_str(), free.title.as_str()), ("bobs-clock", "Bob's Clock!"));
        assert!(called::<ToolName>(Some("  ".to_owned())).is_err());
        assert!(called::<ToolName>(Some("日本".to_owned())).is_err());
    }

    #[test]
    fn lists_come_as_text_too() {
        let read = |text: &str| serde_json::from_str::<Listed>(text).unwrap().items();
        assert_eq!(read(r#""a, b,,""#), ["a", "b"]);
        assert_eq!(read(r#"["a","b"]"#), ["a", "b"]);
    }
}
