//! A REST API for tools that are one HTTP request: it shows what reached it.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use crate::http_server::{Body, HttpServer, answer, empty, json as json_answer};

/// Starts one; paths `/text`, `/nothing` and `/missing` answer as they say, all others show the request.
pub async fn start() -> anyhow::Result<HttpServer> {
    HttpServer::start(show).await
}

async fn show(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match parts.uri.path() {
        "/text" => answer(StatusCode::OK, "text/plain", "plain words"),
        "/nothing" => empty(StatusCode::NO_CONTENT),
        "/missing" => {
            answer(StatusCode::NOT_FOUND, "application/json", r#"{"why":"no such thing"}"#)
        }
        _ => json_answer(shown(&parts, &body)),
    }
}

fn shown(parts: &http::request::Parts, body: &Bytes) -> String {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let seen = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query().unwrap_or_default(),
        "authorization": header("authorization").unwrap_or_default(),
        "body": String::from_utf8_lossy(body),
    });
    seen.to_string()
}
