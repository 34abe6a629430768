//! A plain MCP client that shows exact bytes: what was answered, not what a library made of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::world::PATIENCE;

/// The revision that legacy sessions of tests ask for.
pub const LEGACY: &str = "2025-11-25";
/// The revision of modern requests.
pub const MODERN: &str = "2026-07-28";

/// One HTTP answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: http::HeaderMap,
    /// The body as it came.
    pub body: String,
}

impl Answer {
    /// The JSON-RPC messages in the body, of a JSON answer or of an event stream.
    pub fn messages(&self) -> anyhow::Result<Vec<Value>> {
        if !self.is_stream() {
            return Ok(vec![self.json()?]);
        }
        let events = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        let filled = events.map(str::trim).filter(|data| !data.is_empty());
        filled.map(|data| serde_json::from_str(data).context("bad event")).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("{}: no JSON in `{}`", self.status, self.body))
    }

    /// Whether the answer was an event stream.
    pub fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The last message: the response.
    pub fn response(&self) -> anyhow::Result<Value> {
        self.messages()?.pop().with_context(|| format!("{}: an empty stream", self.status))
    }

    /// The result of the response; an error if it is an error.
    pub fn result(&self) -> anyhow::Result<Value> {
        let mut response = self.response()?;
        let result = response.get_mut("result").map(Value::take);
        result.with_context(|| format!("{}: no result in {response}", self.status))
    }

    /// The code of the JSON-RPC error.
    pub fn error_code(&self) -> anyhow::Result<i64> {
        let response = self.response()?;
        let code = response.pointer("/error/code").and_then(Value::as_i64);
        code.with_context(|| format!("{}: no error in {response}", self.status))
    }
}

/// A client of one endpoint.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    authorization: Option<String>,
    session: Option<String>,
    version: String,
    capabilities: String,
    next: Arc<AtomicU64>,
}

impl Client {
    /// A client that presents `token` as bearer, if there is one.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        let authorization = token.map(|token| format!("Bearer {token}"));
        Self {
            http: http(),
            url: url.to_owned(),
            authorization,
            session: None,
            version: LEGACY.to_owned(),
            capabilities: "{}".to_owned(),
            next: Arc::default(),
        }
    }

    /// The same client with another `Authorization` header.
    #[must_use]
    pub fn authorized(mut self, authorization: &str) -> Self {
        self.authorization = Some(authorization.to_owned());
        self
    }

    /// The same client, with these capabilities in its modern requests (JSON text).
    #[must_use]
    pub fn able(mut self, capabilities: &str) -> Self {
        capabilities.clone_into(&mut self.capabilities);
        self
    }

    /// The same client and session at another URL, with a connection for each request.
    #[must_use]
    pub fn scattered(&self, url: &str) -> Self {
        let http = builder().pool_max_idle_per_host(0).build().unwrap_or_default();
        Self { http, url: url.to_owned(), ..self.clone() }
    }

    /// The id of its session.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A POST to the endpoint with the headers that every client sends.
    pub fn request(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let mut request = self.bare(body);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
            request = request.header("mcp-protocol-version", &self.version);
        }
        request
    }

    /// A POST without the session.
    fn bare(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let mut request = self.http.post(&self.url).body(body);
        request = request.header("content-type", "application/json");
        request = request.header("accept", "application/json, text/event-stream");
        self.signed(request)
    }

    /// A DELETE of the session.
    pub fn delete(&self) -> RequestBuilder {
        let mut request = self.http.delete(&self.url);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        self.signed(request)
    }

    /// A GET of the endpoint.
    pub fn get(&self) -> RequestBuilder {
        self.signed(self.http.get(&self.url))
    }

    /// A GET of the session's stream, after the event `last` if there was one.
    pub fn listen(&self, last: Option<&str>) -> RequestBuilder {
        let mut request = self.get().header("accept", "text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
            request = request.header("mcp-protocol-version", &self.version);
        }
        match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        }
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// Posts a body as it is.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> anyhow::Result<Answer> {
        whole(self.request(body).send().await?).await
    }

    /// Opens a legacy session at `version`.
    pub async fn initialize_at(&mut self, version: &str) -> anyhow::Result<Value> {
        self.initialize_with(version, Value::Object(serde_json::Map::new())).await
    }

    /// Opens a legacy session at `version` of a client that can do more than call.
    pub async fn initialize_with(
        &mut self,
        version: &str,
        capabilities: Value,
    ) -> anyhow::Result<Value> {
        self.initialize_written(version, &capabilities.to_string()).await
    }

    /// The same, with capabilities in exactly this spelling (JSON text).
    pub async fn initialize_written(
        &mut self,
        version: &str,
        capabilities: &str,
    ) -> anyhow::Result<Value> {
        self.session = None;
        version.clone_into(&mut self.version);
        let answer = self.post(format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"tests","version":"1"}}}}}}"#
        )).await?;
        let result = answer.result()?;
        self.session = answer.header("mcp-session-id").map(str::to_owned);
        let done = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let answer = self.post(done).await?;
        ensure!(answer.status == StatusCode::ACCEPTED, "initialized got {}", answer.status);
        Ok(result)
    }

    /// Opens a legacy session.
    pub async fn initialize(&mut self) -> anyhow::Result<Value> {
        self.initialize_at(LEGACY).await
    }

    /// One legacy request; `params` is JSON text.
    pub async fn legacy(&self, method: &str, params: &str) -> anyhow::Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.post(body).await
    }

    /// One modern request; `params` is the text of a JSON object.
    pub async fn modern(&self, method: &str, params: &str) -> anyhow::Result<Answer> {
        whole(self.modern_request(method, params)?.send().await?).await
    }

    /// One modern request, not yet sent.
    pub fn modern_request(&self, method: &str, params: &str) -> anyhow::Result<RequestBuilder> {
        let parsed: Value = serde_json::from_str(params)?;
        let envelope = format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{}}}"#,
            self.capabilities
        );
        let rest = params.trim().strip_prefix('{').context("params must be an object")?;
        let comma =
            if parsed.as_object().is_some_and(serde_json::Map::is_empty) { "" } else { "," };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{envelope}{comma}{rest}}}"#
        );
        let mut request = self.bare(body);
        request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
        let name = match method {
            "resources/read" => "uri",
            "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
            _ => "name",
        };
        if let Some(name) = parsed.get(name).and_then(Value::as_str) {
            request = request.header("mcp-name", name);
        }
        Ok(request)
    }

    /// Sends a request that was changed after it was made.
    pub async fn execute(&self, request: reqwest::Request) -> anyhow::Result<Response> {
        Ok(self.http.execute(request).await?)
    }

    /// Calls a tool in the open session; gives the result.
    pub async fn call(&self, tool: &str, arguments: &str) -> anyhow::Result<Value> {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        self.legacy("tools/call", &params).await?.result()
    }

    /// Calls a tool and gives the text of its first content block.
    pub async fn call_text(&self, tool: &str, arguments: &str) -> anyhow::Result<String> {
        let result = self.call(tool, arguments).await?;
        let text = result.pointer("/content/0/text").and_then(Value::as_str);
        text.map(str::to_owned).with_context(|| format!("no text in {result}"))
    }

    /// The names of the tools in the open session, in the order of the list.
    pub async fn tool_names(&self) -> anyhow::Result<Vec<String>> {
        let result = self.legacy("tools/list", "{}").await?.result()?;
        Ok(names(&result))
    }
}

/// The names in a `tools/list` result.
pub fn names(list: &Value) -> Vec<String> {
    let tools = list.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    tools.iter().filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned)).collect()
}

/// Reads the whole answer.
pub async fn whole(response: Response) -> anyhow::Result<Answer> {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.text().await?;
    Ok(Answer { status, headers, body })
}

/// An event stream that is read while it comes.
pub struct Events {
    response: Response,
    buffer: Vec<u8>,
}

impl Events {
    /// Those of an answer that has begun.
    pub fn of(response: Response) -> Self {
        Self { response, buffer: Vec::new() }
    }

    /// The data of the next event that has any; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
                if let Some(data) = data.filter(|data| !data.is_empty()) {
                    return Ok(Some(serde_json::from_slice(data)?));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let Some(chunk) = chunk.context("silence")?? else { return Ok(None) };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// All that are left.
    pub async fn rest(mut self) -> anyhow::Result<Vec<Value>> {
        let mut rest = Vec::new();
        while let Some(event) = self.next().await? {
            rest.push(event);
        }
        Ok(rest)
    }
}

/// A HTTP client that shares nothing with other tests.
pub fn http() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // Somebody in this process may have installed it before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    builder().build().unwrap_or_default()
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

/// Polls `/ready` until it answers 200.
pub async fn wait_until_ready(url: &str, within: Duration) -> anyhow::Result<()> {
    let http = http();
    let ready = async {
        loop {
            let answer = http.get(format!("{url}/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(within, ready)
        .await
        .map_err(|_| anyhow!("{url} is not ready after {within:?}"))
}

/// Repeats `attempt` until it gives true.
pub async fn eventually<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let last = attempt().await;
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > within {
            return Err(anyhow!("{what}: not within {within:?}; at last {last:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
