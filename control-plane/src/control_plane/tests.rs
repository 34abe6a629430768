//! The control plane as its callers meet it: over its routers, on a real database.

mod access;
mod gateways;
mod identity;
mod proxy;
mod rest;
mod settling;
mod start;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{ControlPlane, StartError};
use crate::{clock::ManualClock, config::Config};

const NOW_MS: i64 = 1_800_000_000_000;

/// A control plane on a temporary directory, with a clock that stands.
struct Fixture {
    control_plane: ControlPlane,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

fn config(dir: &tempfile::TempDir) -> Config {
    let mut config = Config::new(dir.path());
    config.admin_password = Some("changeme".into());
    config.jwt_secret = Some("my-test-key".into());
    config
}

impl Fixture {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let clock_too: Arc<ManualClock> = Arc::clone(&clock);
        let control_plane = ControlPlane::start_with_clock(config(&dir), clock_too).await.unwrap();
        Self { control_plane, clock, dir }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.control_plane.shutdown().await;
        self.dir
    }
}

/// `admin:changeme`.
const BASIC: &str = "Basic YWRtaW46Y2hhbmdlbWU=";

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

/// Sends JSON with the given `Authorization` and gives status and JSON of the answer.
async fn ask(
    router: &Router,
    authorization: &str,
    (method, path): (&str, &str),
    body: &str,
) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    let request = request.header("content-type", "application/json");
    let response = send(router, request.body(Body::from(body.to_owned())).unwrap()).await;
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let json = serde_json::from_slice(&bytes);
    (status, json.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into())))
}
