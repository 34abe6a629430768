//! An MCP server of exact bytes: what it answers is written by the test.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::http_server::{self, Body, HttpServer, empty, json};

/// A running server and the bodies it was sent.
pub struct RawServer {
    server: HttpServer,
    seen: Arc<Mutex<Vec<String>>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    method: String,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl RawServer {
    /// `answer` is given method and body of each request, and gives the rest of the response:
    /// `"result":…` or `"error":…`. Lines before it are messages that are said before, on a
    /// stream. Without an answer the method is not found.
    pub async fn start(
        answer: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let (seen, answer) = (Arc::default(), Arc::new(answer));
        let shared = Arc::clone(&seen);
        let server = HttpServer::start(move |request| {
            let (seen, answer) = (Arc::clone(&shared), Arc::clone(&answer));
            async move { serve(&seen, &*answer, request).await }
        })
        .await?;
        Ok(Self { server, seen })
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        self.server.url("/mcp")
    }

    /// The last body that names `method`.
    pub async fn last(&self, method: &str) -> Option<String> {
        let name = format!("\"{method}\"");
        self.seen.lock().await.iter().rev().find(|body| body.contains(&name)).cloned()
    }
}

async fn serve(
    seen: &Mutex<Vec<String>>,
    answer: &(impl Fn(&str, &str) -> Option<String> + Send + Sync),
    request: Request<Incoming>,
) -> Response<Body> {
    if request.method() != http::Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    seen.lock().await.push(body.clone());
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&body) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let Some(id) = envelope.id.map(RawValue::get) else { return empty(StatusCode::ACCEPTED) };
    let missing = || r#""error":{"code":-32601,"message":"Method not found"}"#.to_owned();
    let rest = answer(&envelope.method, &body).unwrap_or_else(missing);
    let Some((before, rest)) = rest.rsplit_once('\n') else {
        return json(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#)));
    };
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#);
    let events = before.lines().chain([&*answer]).map(|data| format!("data: {data}\n\n"));
    http_server::answer(StatusCode::OK, "text/event-stream", events.collect::<String>())
}
