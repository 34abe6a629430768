//! A tool as ContextForge's clients write it.

use std::collections::{BTreeMap, HashMap};

use proto::{Invalid, ToolName, tool::ToolDraft, wire};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::rest::{
    body::{self, Listed},
    credential::AuthFields,
};

/// A tool as it is written.
#[derive(Debug, Deserialize)]
pub(super) struct ToolCreate {
    name: Option<String>,
    #[serde(alias = "displayName", alias = "display_name")]
    title: Option<String>,
    url: Option<String>,
    description: Option<String>,
    #[serde(alias = "integrationType")]
    integration_type: Option<String>,
    #[serde(alias = "requestType")]
    request_type: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    #[serde(alias = "inputSchema")]
    input_schema: Option<Box<RawValue>>,
    #[serde(alias = "outputSchema")]
    output_schema: Option<Box<RawValue>>,
    annotations: Option<Box<RawValue>>,
    #[serde(alias = "jsonpathFilter")]
    jsonpath_filter: Option<String>,
    tags: Option<Listed>,
    auth: Option<AuthFields>,
    #[serde(flatten)]
    auth_fields: HashMap<String, Value>,
}

impl ToolCreate {
    pub(super) fn draft(self) -> Result<ToolDraft, Invalid> {
        let called = body::called::<ToolName>(self.name)?;
        if self.jsonpath_filter.is_some_and(|filter| !filter.trim().is_empty()) {
            return Err(Invalid::new("jsonpath_filter", "is not served yet"));
        }
        match self.integration_type.as_deref().unwrap_or("REST") {
            "REST" => (),
            "MCP" => {
                let problem = "cannot be MCP: register the MCP server at /gateways";
                return Err(Invalid::new("integration_type", problem));
            }
            _ => return Err(Invalid::new("integration_type", "must be REST")),
        }
        let auth = match self.auth {
            Some(auth) => auth,
            None => auth_fields(self.auth_fields)?,
        };
        let raw = |json: Option<Box<RawValue>>| {
            json.map(|json| json.get().to_owned()).filter(|json| json != "null")
        };
        ToolDraft::try_from(wire::Tool {
            name: called.name,
            title: self.title.unwrap_or(called.title),
            description: self.description.unwrap_or_default(),
            input_schema: raw(self.input_schema).unwrap_or_default(),
            output_schema: raw(self.output_schema).unwrap_or_default(),
            annotations: raw(self.annotations).filter(|json| json != "{}").unwrap_or_default(),
            rest: Some(wire::RestBinding {
                url: self.url.ok_or_else(|| Invalid::missing("url"))?,
                method: self.request_type.unwrap_or_default().to_uppercase(),
                headers: self.headers.unwrap_or_default(),
            }),
            credential: auth.credential()?,
            tags: self.tags.map(Listed::items).unwrap_or_default(),
            ..wire::Tool::default()
        })
    }
}

/// The `auth_*` fields among those left over.
fn auth_fields(fields: HashMap<String, Value>) -> Result<AuthFields, Invalid> {
    let fields = fields.into_iter().filter(|(name, _)| name.starts_with("auth"));
    let fields = Value::Object(fields.collect());
    serde_json::from_value(fields).map_err(|error| Invalid::new("auth_type", error.to_string()))
}
