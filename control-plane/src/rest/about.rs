//! `/version`, `/health`, `/ready` and the handshake by REST.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use proto::Permission;
use serde::Deserialize;
use serde_json::json;

use crate::{
    operations::{PROTOCOL_VERSIONS, VERSION},
    rest::{
        body,
        error::{RestError, detail},
        shapes::{Who, time},
    },
    services::Services,
};

/// The newest version of the `initialize` era, for clients that ask for an unknown one.
const LEGACY_LATEST: &str = "2025-11-25";
/// The first version without `initialize`.
const MODERN_FIRST: &str = "2026-07-28";

pub(crate) async fn health(State(services): State<Services>) -> Response {
    if services.operations.is_ready().await {
        return Json(json!({ "status": "healthy" })).into_response();
    }
    let body = json!({ "status": "unhealthy", "error": "the database does not answer" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

pub(crate) async fn ready(State(services): State<Services>) -> Response {
    if services.operations.is_ready().await {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready" }))).into_response()
}

/// ContextForge's diagnostics, with Rust where it has Python. No environment is shown.
pub(crate) async fn version(
    State(services): State<Services>,
    Extension(caller): Who,
) -> Result<Response, RestError> {
    let status = services.operations.status(&caller).await?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.map_or_else(|_| "unknown".to_owned(), |host| host.trim().to_owned());
    let uptime_seconds = (status.time_ms - status.start_time_ms) / 1000;
    let stock = status.stock.as_ref();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Ok(Json(json!({
        "timestamp": time(status.time_ms),
        "host": host,
        "uptime_seconds": uptime_seconds,
        "app": {
            "name": services.app_name,
            "version": VERSION,
            "mcp_protocol_version": LEGACY_LATEST,
            "mcp_protocol_versions": PROTOCOL_VERSIONS,
        },
        "platform": {
            "rust": env!("CARGO_PKG_RUST_VERSION"),
            "python": null,
            "fastapi": null,
            "sqlalchemy": null,
            "os": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        },
        "database": {
            "dialect": status.database,
            "url": services.database_shown,
            "reachable": stock.is_some(),
            "server_version": stock.map(|stock| &stock.database_version),
        },
        "redis": {
            "available": false, "url": null, "reachable": false, "server_version": null,
        },
        "settings": {
            "cache_type": "memory",
            "mcpgateway_ui_enabled": false,
            "mcpgateway_admin_api_enabled": false,
        },
        "env": {},
        "system": { "cpu_count": processors, "process": { "pid": std::process::id() } },
    }))
    .into_response())
}

#[derive(Debug, Deserialize)]
struct Initialize {
    #[serde(alias = "protocolVersion")]
    protocol_version: Option<String>,
}

/// The handshake without JSON-RPC. What it advertises is what ContextForge's
/// clients look for in this answer; MCP itself is at `/mcp`.
pub(crate) async fn initialize(
    State(services): State<Services>,
    Extension(caller): Who,
    body: Bytes,
) -> Result<Response, RestError> {
    caller.require(Permission::Call)?;
    let Initialize { protocol_version } = body::read(&body, "params")?;
    let Some(asked) = protocol_version.filter(|version| !version.is_empty()) else {
        return Ok(detail(StatusCode::BAD_REQUEST, "Missing protocol version").into_response());
    };
    let is_served = PROTOCOL_VERSIONS.contains(&asked.as_str()) && asked != MODERN_FIRST;
    let protocol_version = if is_served { asked } else { LEGACY_LATEST.to_owned() };
    Ok(Json(json!({
        "protocolVersion": protocol_version,
        "capabilities": {
            "prompts": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "tools": { "listChanged": true },
            "logging": {},
        },
        "serverInfo": { "name": services.app_name, "version": VERSION },
        "instructions": "A gateway to the tools of several MCP servers and REST services. \
                         MCP clients connect to /mcp.",
    }))
    .into_response())
}
