//! A small MCP client over Streamable HTTP, modern era only, for `lockgate tools call`; and a
//! bridge from a pipe to such a server, for `lockgate connect`.

mod bridge;
mod carry;
mod end;
mod events;
pub mod lines;
mod mirrored;
mod remote;
mod repeat;
mod reply;
mod session;
mod wishes;

use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use proto::{Era, Secret, tool::Definition, upstream::FailureReason};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use crate::{
    egress::{Egress, Provenance},
    mcp::{Message, code, mirror, object::Span, response::quote},
    upstream::{Bounds, CallFailure, Endpoint, Health, Limits, Stage, error_of, result_of},
};

pub use self::{
    bridge::{Bridge, BridgeConfig},
    events::EventBridge,
};

/// Why a request of the client got no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{0}` is not a URL")]
    BadUrl(String),
    #[error("the token cannot be sent in a header")]
    BadToken,
    #[error("the arguments are not a JSON object")]
    BadArguments,
    #[error("the server {0}")]
    Failed(#[from] CallFailure),
    #[error("error {code}: {message}")]
    Rpc { code: i64, message: String },
}

impl ClientError {
    /// Whether the server wants another token.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Failed(CallFailure::Auth { .. }))
    }

    /// Whether the server was not reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Failed(CallFailure::Unreachable(error))
            if error.reason() != FailureReason::Egress)
    }
}

/// A client of one endpoint. It has no session: each request stands alone.
#[derive(Debug)]
pub struct McpClient {
    endpoint: Arc<Endpoint>,
    limits: Limits,
}

impl McpClient {
    /// A client of `url` that presents `token`. Nothing is sent yet.
    pub fn connect(url: &str, token: Option<&Secret<String>>) -> Result<Self, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::BadUrl(url.to_owned()))?;
        let mut secrets = HeaderMap::new();
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| ClientError::BadToken)?;
            value.set_sensitive(true);
            secrets.insert(header::AUTHORIZATION, value);
        }
        let limits = Limits::default();
        let origin = Egress::new().origin(&uri, Provenance::Registered);
        let health = Arc::new(Health::new(String::new(), Arc::default(), Stage::default()));
        let shared = (health, TaskTracker::new());
        let endpoint = Endpoint::new(origin, uri, secrets, limits, shared);
        Ok(Self { endpoint: Arc::new(endpoint), limits })
    }

    /// All tools, as the JSON texts that the server sent.
    pub async fn list_tools(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            #[serde(borrow)]
            tools: Vec<&'a RawValue>,
            next_cursor: Option<String>,
        }
        let mut tools = Vec::new();
        let mut members = String::new();
        loop {
            let headers = self.endpoint.modern_headers("tools/list", None);
            let answer = self.ask(headers, "tools/list", &members).await?;
            let page: Page<'_> = serde_json::from_str(result(&answer)?)
                .map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
            let had = tools.len();
            tools.extend(page.tools.iter().map(|tool| tool.get().to_owned()));
            match page.next_cursor {
                Some(cursor) if tools.len() > had => {
                    members = format!("\"cursor\":{}", quote(&cursor));
                }
                Some(_) | None => return Ok(tools),
            }
        }
    }

    /// Calls a tool. Arguments and result are JSON text; progress is not shown.
    pub async fn call_tool(&self, name: &str, arguments: &str) -> Result<String, ClientError> {
        proto::catalog::json_object("", arguments).map_err(|_| ClientError::BadArguments)?;
        let members = format!("\"name\":{},\"arguments\":{arguments}", quote(name));
        let headers = self.endpoint.modern_headers("tools/call", Some(name));
        let mut answer = self.ask(headers.clone(), "tools/call", &members).await?;
        // The tool wants some arguments in headers too; its schema says which.
        if error_of(&answer).is_some_and(|error| error.code == code::HEADER_MISMATCH) {
            let headers = self.mirrored(headers, name, arguments).await?;
            answer = self.ask(headers, "tools/call", &members).await?;
        }
        result(&answer).map(ToOwned::to_owned)
    }

    async fn mirrored(
        &self,
        mut headers: HeaderMap,
        name: &str,
        arguments: &str,
    ) -> Result<HeaderMap, ClientError> {
        let tools = self.list_tools().await?;
        let tool = tools.iter().map(|tool| Definition::of(tool)).find(|tool| tool.name == name);
        let schema = tool.and_then(|tool| tool.input_schema).map_or("{}", RawValue::get);
        let span = Span { start: 0, end: arguments.len() };
        for param in mirror::mirror_params(schema).unwrap_or_default() {
            let value = param.value_in(arguments, span);
            let value = value.and_then(|value| HeaderValue::from_str(&mirror::encode(&value)).ok());
            if let (Some(value), Ok(name)) =
                (value, HeaderName::from_bytes(param.header.as_bytes()))
            {
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }

    async fn ask(
        &self,
        headers: HeaderMap,
        method: &str,
        members: &str,
    ) -> Result<Message, ClientError> {
        let bounds = Bounds::of_call(&self.limits);
        let asked = self.endpoint.ask(Era::Modern, headers, (method, members), &bounds).await?;
        if asked.status.as_u16() == 401 {
            return Err(CallFailure::Auth { status: 401 }.into());
        }
        Ok(asked.message?)
    }
}

fn result(answer: &Message) -> Result<&str, ClientError> {
    if let Some(error) = error_of(answer) {
        return Err(ClientError::Rpc { code: error.code, message: error.message.into_owned() });
    }
    Ok(result_of(answer).unwrap_or_default())
}
