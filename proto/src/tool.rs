//! A tool: discovered at an upstream, or authored here as a REST request.

use crate::{
    CredentialChange, CredentialSummary, RestBinding, ToolName, UpstreamName,
    catalog::json_object,
    invalid::{Invalid, Under as _},
    upstream::{check_text, tags_of},
    wire,
};

/// What a writer may say about an authored tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDraft {
    pub name: ToolName,
    pub title: String,
    pub description: String,
    /// JSON text of an object schema.
    pub input_schema: String,
    /// JSON text or empty.
    pub output_schema: String,
    /// JSON text or empty.
    pub annotations: String,
    pub rest: RestBinding,
    pub credential: CredentialChange,
    pub disabled: bool,
    pub tags: Vec<String>,
}

/// Where a tool comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolSource {
    Upstream { id: String, name: UpstreamName, original_name: String },
    Rest(RestBinding),
}

/// A tool of the registry, under its exposed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub id: String,
    pub name: ToolName,
    pub source: ToolSource,
    /// The MCP tool object under its original name, JSON text.
    pub definition: String,
    pub credential: Option<CredentialSummary>,
    pub disabled: bool,
    pub tags: Vec<String>,
    pub needs_client_capabilities: Vec<String>,
    pub resource_version: u64,
    pub create_time_ms: i64,
    pub update_time_ms: i64,
}

/// The parts of an MCP tool object that the API shows one by one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition<'a> {
    #[serde(default)]
    pub name: String,
    pub title: Option<String>,
    pub description: Option<String>,
    #[serde(borrow)]
    pub input_schema: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    pub output_schema: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    pub annotations: Option<&'a serde_json::value::RawValue>,
}

impl<'a> Definition<'a> {
    /// Reads a definition; one that is no tool object reads as empty.
    pub fn of(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl ToolDraft {
    /// The MCP tool object that clients are shown.
    pub fn definition(&self) -> String {
        let mut out = String::from("{\"name\":");
        push_json(&mut out, self.name.as_str());
        for (key, text) in [("title", &self.title), ("description", &self.description)] {
            if !text.is_empty() {
                out.push_str(&format!(",\"{key}\":"));
                push_json(&mut out, text);
            }
        }
        out.push_str(",\"inputSchema\":");
        out.push_str(&self.input_schema);
        for (key, json) in
            [("outputSchema", &self.output_schema), ("annotations", &self.annotations)]
        {
            if !json.is_empty() {
                out.push_str(&format!(",\"{key}\":{json}"));
            }
        }
        out.push('}');
        out
    }
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

impl TryFrom<wire::Tool> for ToolDraft {
    type Error = Invalid;

    fn try_from(tool: wire::Tool) -> Result<Self, Invalid> {
        let wire::Tool {
            id: _,
            name,
            upstream: _,
            original_name: _,
            title,
            description,
            input_schema,
            output_schema,
            annotations,
            definition: _,
            rest,
            credential,
            credential_summary: _,
            disabled,
            tags,
            needs_client_capabilities: _,
            resource_version: _,
            create_time_ms: _,
            update_time_ms: _,
        } = tool;
        check_text("title", &title)?;
        check_text("description", &description)?;
        let rest = rest.ok_or_else(|| Invalid::missing("rest"))?;
        Ok(Self {
            name: name.parse()?,
            title,
            description,
            input_schema: input_schema_of(input_schema)?,
            output_schema: optional_object("output_schema", output_schema)?,
            annotations: optional_object("annotations", annotations)?,
            rest: RestBinding::try_from(rest).under("rest")?,
            credential: CredentialChange::try_from(credential.unwrap_or_default())
                .under("credential")?,
            disabled,
            tags: tags_of(tags)?,
        })
    }
}

/// A tool's input is an object (MCP 2025-06-18, server/tools); nothing given means any object.
fn input_schema_of(text: String) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return Ok(r#"{"type":"object"}"#.to_owned());
    }
    json_object("input_schema", &text)?;
    #[derive(serde::Deserialize)]
    struct Root<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    match serde_json::from_str::<Root<'_>>(&text) {
        Ok(Root { kind: Some(kind) }) if kind == "object" => Ok(text.trim().to_owned()),
        _ => Err(Invalid::new("input_schema", "must have `\"type\": \"object\"`")),
    }
}

fn optional_object(field: &str, text: String) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    json_object(field, &text)?;
    Ok(text)
}

impl From<Tool> for wire::Tool {
    fn from(tool: Tool) -> Self {
        let Tool {
            id,
            name,
            source,
            definition,
            credential,
            disabled,
            tags,
            needs_client_capabilities,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = tool;
        let raw = |value: Option<&serde_json::value::RawValue>| {
            value.map_or_else(String::new, |raw| raw.get().to_owned())
        };
        let shown = Definition::of(&definition);
        let (upstream, original_name, rest) = match source {
            ToolSource::Upstream { id: _, name, original_name } => {
                (name.to_string(), original_name, None)
            }
            ToolSource::Rest(binding) => (String::new(), String::new(), Some(binding.into())),
        };
        Self {
            id,
            name: name.to_string(),
            upstream,
            original_name,
            title: shown.title.unwrap_or_default(),
            description: shown.description.unwrap_or_default(),
            input_schema: raw(shown.input_schema),
            output_schema: raw(shown.output_schema),
            annotations: raw(shown.annotations),
            definition: definition.clone(),
            rest,
            credential: None,
            credential_summary: credential.map(Into::into),
            disabled,
            tags,
            needs_client_capabilities,
            resource_version,
            create_time_ms,
            update_time_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(input_schema: &str) -> Result<ToolDraft, Invalid> {
        ToolDraft::try_from(wire::Tool {
            name: "clock_tool".to_owned(),
            description: "says \"when\"".to_owned(),
            input_schema: input_schema.to_owned(),
            rest: Some(wire::RestBinding { url: "http://h/rpc".to_owned(), ..Default::default() }),
            ..Default::default()
        })
    }

    #[test]
    fn a_definition_keeps_the_schema_text() {
        let draft = draft(r#"{"type":"object","x":1.0}"#).unwrap();
        let expected = r#"{"name":"clock_tool","description":"says \"when\"","inputSchema":{"type":"object","x":1.0}}"#;
        assert_eq!(draft.definition(), expected);
    }

    #[test]
    fn an_input_schema_is_an_object_schema() {
        assert_eq!(draft("[]").unwrap_err().field, "input_schema");
        assert_eq!(draft("{").unwrap_err().field, "input_schema");
        assert!(draft(r#"{"type":"string"}"#).is_err());
        assert_eq!(draft("").unwrap().input_schema, r#"{"type":"object"}"#);
    }
}
