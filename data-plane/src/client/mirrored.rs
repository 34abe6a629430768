//! Headers of requests: the session's, or what mirrors a modern body (MCP 2026-07-28,
//! transports).

use http::{HeaderMap, HeaderName, HeaderValue};
use proto::{Era, tool::Definition};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    carry::response_to,
    remote::{Remote, STEP},
    repeat::Repeat,
    session::{Session, VERSION},
};
use crate::{
    mcp::{Message, Method, message::parse, mirror},
    upstream::{Bounds, CallFailure, request, result_of},
};

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

impl Remote {
    /// Headers of a request: the session's, or what mirrors a modern body.
    pub(super) fn headers(&self, message: &Message, session: Option<&Session>) -> HeaderMap {
        if let Some(session) = session {
            return session.headers.clone();
        }
        let mut headers = self.template.clone();
        let (Some(params), Some(method)) = (message.params(), message.method()) else {
            return headers;
        };
        let Some(version) = params.meta.protocol_version.as_ref().and_then(|it| it.as_str()) else {
            return headers;
        };
        mirror_into(&mut headers, VERSION, version);
        mirror_into(&mut headers, METHOD, method.as_str());
        if let Some(name) = named(message) {
            mirror_into(&mut headers, NAME, &name);
            let found = self.mirrored.lock().get(&name).cloned();
            let arguments = params.arguments.unwrap_or_default();
            for param in found.iter().flat_map(|found| found.iter()) {
                let value = param.value_in(message.text(), arguments);
                let header = HeaderName::from_bytes(param.header.as_bytes());
                if let (Some(value), Ok(header)) = (value, header) {
                    mirror_into(&mut headers, header, &value);
                }
            }
        }
        headers
    }

    /// Reads which parameters of a tool its server wants in headers; false if none.
    pub(super) async fn learn(&self, message: &Message) -> Result<bool, CallFailure> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            tools: Vec<&'a RawValue>,
        }
        let Some(name) = named(message).filter(|_| message.method() == Some(&Method::ToolsCall))
        else {
            return Ok(false);
        };
        let list = request(Era::Modern, "\"lockgate-tools\"", "tools/list", "");
        let list =
            parse(list.into()).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
        let bounds = Bounds::of_step(&self.limits, STEP);
        let asked = (self.headers(&list, None), list.body.clone());
        let response = self.post(asked, Repeat::IfBroken, &bounds).await?;
        let answer = response_to(&list, response, &bounds).await?;
        let result = result_of(&answer).unwrap_or_default();
        let Ok(page) = serde_json::from_str::<Page<'_>>(result) else { return Ok(false) };
        let mut tools = page.tools.iter().map(|tool| Definition::of(tool.get()));
        let schema = tools.find(|tool| tool.name == name).and_then(|tool| tool.input_schema);
        let params = mirror::mirror_params(schema.map_or("{}", RawValue::get)).unwrap_or_default();
        if params.is_empty() {
            return Ok(false);
        }
        self.mirrored.lock().insert(name, params.into());
        Ok(true)
    }
}

/// What `Mcp-Name` mirrors (MCP 2026-07-28, transports).
fn named(message: &Message) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        name: Option<String>,
        uri: Option<String>,
        task_id: Option<String>,
    }
    let span = message.params()?.span?;
    let params = || serde_json::from_slice::<Params>(message.raw(span)).ok();
    match message.method()?.as_str() {
        "tools/call" | "prompts/get" => params()?.name,
        "resources/read" => params()?.uri,
        method if method.starts_with("tasks/") => params()?.task_id,
        _ => None,
    }
}

fn mirror_into(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Encoded values are always valid.
    if let Ok(value) = HeaderValue::from_str(&mirror::encode(value)) {
        headers.insert(name, value);
    }
}
