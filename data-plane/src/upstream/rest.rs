//! Tools that are one HTTP request: arguments checked, request built, answer wrapped for MCP.

mod request;
mod schema;

use std::sync::Arc;

use dashmap::DashMap;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use proto::{Era, RestBinding, resource::CredentialResource, tool::Definition};

use self::{request::Target, schema::InputSchema};
use super::{
    Call, Limits, credential,
    failure::CallFailure,
    fetch::{self, Bounds},
};
use crate::{
    egress::{Egress, HttpClient, Provenance},
    mcp::{
        Pieces,
        message::meta_key,
        response::{self, SERVER_INFO, quote},
    },
    snapshot::table::ToolEntry,
};

/// Compiled tools that are kept at most; beyond, the cache starts anew.
const COMPILED_MAX: usize = 20_000;

/// All REST tools of this proxy, over one pooled client.
#[derive(Debug)]
pub(crate) struct RestTools {
    client: HttpClient,
    limits: Limits,
    compiled: DashMap<Box<str>, Arc<RestTool>>,
}

/// A tool as it was when it was compiled.
#[derive(Debug)]
struct RestTool {
    entry: Arc<ToolEntry>,
    credential: Option<CredentialResource>,
    headers: HeaderMap,
    schema: Result<InputSchema, String>,
    has_output_schema: bool,
}

impl RestTools {
    pub(crate) fn new(egress: &Egress, limits: Limits) -> Self {
        let client = egress.client(Provenance::Registered);
        Self { client, limits, compiled: DashMap::new() }
    }

    /// Runs one call; what the tool can say about it is in the answer.
    pub(crate) async fn call(
        &self,
        call: &Call,
        entry: &Arc<ToolEntry>,
        binding: &RestBinding,
        credential: Option<&CredentialResource>,
    ) -> Result<Pieces, CallFailure> {
        let tool = self.tool(entry, binding, credential);
        let arguments = call.message.params().and_then(|params| params.arguments);
        let arguments = arguments.map_or("{}", |span| span.of(call.message.text()));
        let target = match prepare(&tool, binding, arguments) {
            Ok(target) => target,
            Err(problem) => return Ok(Outcome::failed(problem).answer(call)),
        };
        let bounds = Bounds::of_call(&self.limits);
        let mut outcome = self.run(&tool, binding, &target, &bounds).await;
        if call.is_repeatable() && matches!(outcome, Err(CallFailure::Broken(_))) {
            outcome = self.run(&tool, binding, &target, &bounds).await;
        }
        Ok(outcome?.answer(call))
    }

    fn tool(
        &self,
        entry: &Arc<ToolEntry>,
        binding: &RestBinding,
        credential: Option<&CredentialResource>,
    ) -> Arc<RestTool> {
        if let Some(tool) = self.compiled.get(&entry.id)
            && (Arc::ptr_eq(&tool.entry, entry) || tool.entry == *entry)
            && tool.credential.as_ref() == credential
        {
            return Arc::clone(&tool);
        }
        if self.compiled.len() >= COMPILED_MAX {
            self.compiled.clear();
        }
        let tool = Arc::new(RestTool::compile(entry, binding, credential));
        self.compiled.insert(entry.id.clone(), Arc::clone(&tool));
        tool
    }

    async fn run(
        &self,
        tool: &RestTool,
        binding: &RestBinding,
        target: &Target,
        bounds: &Bounds,
    ) -> Result<Outcome, CallFailure> {
        let body = target.body.clone();
        let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
        *request.method_mut() = match binding.method {
            proto::RestMethod::Get => http::Method::GET,
            proto::RestMethod::Post => http::Method::POST,
            proto::RestMethod::Put => http::Method::PUT,
            proto::RestMethod::Patch => http::Method::PATCH,
            proto::RestMethod::Delete => http::Method::DELETE,
        };
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = tool.headers.clone();
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        let response = fetch::send(&self.client, request, bounds).await?;
        let status = response.status();
        let is_json = is_json(fetch::media_type(response.headers()));
        if !status.is_success() {
            let body = fetch::read_refusal(response.into_body(), bounds).await;
            return Ok(Outcome::refused(status, &body));
        }
        let body = fetch::read_all(response.into_body(), bounds).await?;
        Ok(if is_json && tool.has_output_schema {
            Outcome::structured(&body)
        } else {
            Outcome::text(&body)
        })
    }
}

fn prepare(tool: &RestTool, binding: &RestBinding, arguments: &str) -> Result<Target, String> {
    match &tool.schema {
        Ok(schema) => schema.check(arguments)?,
        Err(problem) => return Err(problem.clone()),
    }
    request::target(binding, arguments).map_err(|bad| bad.to_string())
}

fn is_json(media: &str) -> bool {
    let media = media.to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

impl RestTool {
    fn compile(
        entry: &Arc<ToolEntry>,
        binding: &RestBinding,
        credential: Option<&CredentialResource>,
    ) -> Self {
        let schema = match entry.input_schema() {
            "" => r#"{"type":"object"}"#,
            schema => schema,
        };
        let definition = Definition::of(entry.definition.text());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/*;q=0.9, */*;q=0.8"),
        );
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, fetch::USER_AGENT);
        credential::add_to(&mut headers, Some(&binding.headers), credential);
        Self {
            entry: Arc::clone(entry),
            credential: credential.cloned(),
            headers,
            schema: InputSchema::compile(schema),
            has_output_schema: definition.output_schema.is_some(),
        }
    }
}

/// What a tool result says.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    text: String,
    /// JSON object text.
    structured: Option<String>,
    is_error: bool,
}

impl Outcome {
    fn text(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).into_owned();
        Self { text, structured: None, is_error: false }
    }

    /// A JSON object is given as such too (MCP 2025-06-18, structured content).
    fn structured(body: &[u8]) -> Self {
        let text = Self::text(body);
        let json = text.text.trim();
        let is_object = proto::catalog::json_object("", json).is_ok();
        Self { structured: is_object.then(|| json.to_owned()), ..text }
    }

    fn refused(status: StatusCode, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let text = format!("HTTP {status}\n{body}").trim_end().to_owned();
        Self::failed(text)
    }

    fn failed(text: String) -> Self {
        Self { text, structured: None, is_error: true }
    }

    /// The response in the client's era (MCP, server/tools: tool result).
    fn answer(&self, call: &Call) -> Pieces {
        let mut result = format!(r#"{{"content":[{{"type":"text","text":{}}}]"#, quote(&self.text));
        if let Some(structured) = &self.structured {
            result.push_str(&format!(r#","structuredContent":{structured}"#));
        }
        result.push_str(&format!(r#","isError":{}"#, self.is_error));
        if call.client_era == Era::Modern {
            result.push_str(&format!(
                r#","resultType":"complete","_meta":{{"{}":{SERVER_INFO}}}"#,
                meta_key::SERVER_INFO
            ));
        }
        result.push('}');
        response::answer(&call.id(), result.into())
    }
}

#[cfg(test)]
mod tests;
