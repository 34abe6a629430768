//! A document with the order of its keys, the lines of its values and its numbers as
//! written: what YAML and JSON files become before anything is made of them.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use crate::failure::Failure;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A value and the line where it stands; 0: unknown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub line: u64,
    pub tree: Tree,
}

/// All documents of a YAML text; empty documents are left out.
pub(crate) fn from_yaml(text: &str) -> Result<Vec<Node>, Failure> {
    let documents: Vec<Spanned<Tree>> = serde_saphyr::from_multiple(text)
        .map_err(|error| Failure::invalid(error.to_string().trim_end().to_owned()))?;
    let nodes = documents.into_iter().map(Node::from);
    Ok(nodes.filter(|node| node.tree != Tree::Null).collect())
}

/// One JSON text. Numbers beyond 64 bits become the nearest double.
pub(crate) fn from_json(text: &str) -> Result<Tree, Failure> {
    serde_json::from_str::<Plain>(text)
        .map(|Plain(tree)| tree)
        .map_err(|error| Failure::invalid(format!("not JSON: {error}")))
}

/// JSON texts one after the other.
pub(crate) fn from_json_stream(text: &str) -> Result<Vec<Node>, Failure> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Plain>()
        .map(|plain| plain.map(Node::from))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::invalid(format!("not JSON: {error}")))
}

impl Tree {
    /// The word for error messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// A scalar as it would be typed; lists and objects have none.
    pub(crate) fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Text(value) => Some(value.clone()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<Spanned<Tree>> for Node {
    fn from(spanned: Spanned<Tree>) -> Self {
        Self { line: spanned.referenced.line(), tree: spanned.value }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.tree.serialize(serializer)
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::List(values) => values.serialize(serializer),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(k, v)| (k, v))),
        }
    }
}

/// From a format with lines (YAML).
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape::<Spanned<Tree>>(std::marker::PhantomData))
    }
}

/// From a format without lines (JSON).
struct Plain(Tree);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape::<Self>(std::marker::PhantomData)).map(Plain)
    }
}

impl From<Plain> for Node {
    fn from(Plain(tree): Plain) -> Self {
        Self { line: 0, tree }
    }
}

struct Shape<Child>(std::marker::PhantomData<Child>);

impl<'de, Child: Deserialize<'de> + Into<Node>> Visitor<'de> for Shape<Child> {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        serde_json::Number::from_f64(value)
            .map(Tree::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut values = Vec::new();
        while let Some(child) = access.next_element::<Child>()? {
            values.push(child.into());
        }
        Ok(Tree::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(serde::de::Error::custom(format!("`{key}` is given twice")));
            }
            entries.push((key, access.next_value::<Child>()?.into()));
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_lines_survive() {
        let nodes =
            from_yaml("z: 1\na:\n  - x: 2.5\n---\n# nothing\n---\nb: yes please\n").unwrap();
        let json = nodes.iter().map(|node| node.tree.to_json()).collect::<Vec<_>>();
        assert_eq!(json, [r#"{"z":1,"a":[{"x":2.5}]}"#, r#"{"b":"yes please"}"#]);
        assert_eq!(nodes.iter().map(|node| node.line).collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn a_key_given_twice_is_refused_in_both_forms() {
        assert!(from_yaml("a: 1\na: 2\n").is_err());
        assert!(from_json(r#"{"a":1,"a":2}"#).is_err());
    }

    #[test]
    fn an_error_of_the_file_has_its_line() {
        let failure = from_yaml("a: 1\nb: [1\n").unwrap_err();
        assert!(failure.message.contains("line"), "{failure}");
    }
}
