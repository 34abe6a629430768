//! Headers of requests: the session's, or what mirrors a modern body (MCP 2026-07-28,
//! transports).

use std::borrow::Cow;

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
    mcp::{
        Message, Method,
        message::parse,
        mirror::{self, MirrorParam},
        response::quote,
    },
    upstream::{Bounds, CallFailure, request, result_of},
};

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Pages of tools that are read.
const PAGES_MAX: usize = 100;

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

    /// Reads which parameters of a tool its server wants in headers; false if none, or if that
    /// cannot be found out.
    pub(super) async fn learn(&self, message: &Message) -> bool {
        let Some(name) = named(message).filter(|_| message.method() == Some(&Method::ToolsCall))
        else {
            return false;
        };
        match self.mirrored_now(&name).await {
            Ok(params) => {
                let is_any = !params.is_empty();
                if is_any {
                    self.mirrored.lock().insert(name, params.into());
                }
                is_any
            }
            Err(failure) => {
                tracing::debug!(%failure, "what a tool wants in headers cannot be found out");
                false
            }
        }
    }

    /// What the definition of a tool asks for now; nothing if it is not listed.
    async fn mirrored_now(&self, name: &str) -> Result<Vec<MirrorParam>, CallFailure> {
        let bounds = Bounds::of_step(&self.limits, STEP);
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let list = list_request(cursor.as_deref())?;
            let asked = (self.headers(&list, None), list.body().clone());
            let response = self.post(asked, Repeat::IfBroken, &bounds).await?;
            let answer = response_to(&list, response, &bounds).await?;
            let page: Page<'_> = serde_json::from_str(result_of(&answer).unwrap_or_default())
                .map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
            if let Some(params) = page.mirrored(name) {
                return Ok(params);
            }
            cursor = page.next_cursor.map(Cow::into_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(Vec::new())
    }
}

/// One page of a server's tools.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(borrow)]
    next_cursor: Option<Cow<'a, str>>,
}

impl Page<'_> {
    /// What a tool wants in headers, if it is on this page.
    fn mirrored(&self, name: &str) -> Option<Vec<MirrorParam>> {
        let mut tools = self.tools.iter().map(|tool| Definition::of(tool.get()));
        let tool = tools.find(|tool| tool.name == name)?;
        let schema = tool.input_schema.map_or("{}", RawValue::get);
        Some(mirror::mirror_params(schema).unwrap_or_default())
    }
}

fn list_request(cursor: Option<&str>) -> Result<Message, CallFailure> {
    let members = cursor.map(|cursor| format!("\"cursor\":{}", quote(cursor)));
    let members = members.unwrap_or_default();
    let list = request(Era::Modern, "\"lockgate-tools\"", "tools/list", &members);
    parse(list.into()).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))
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
