//! `/gateways`: upstreams, registered and tried at once.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use proto::{
    Invalid, Permission, UpstreamName,
    name::slug,
    upstream::{Phase, Transport, Upstream, UpstreamDraft},
    wire,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    caller::Caller,
    error::Error,
    registry::WriteOptions,
    rest::{
        body::{self, Listed},
        credential::{AuthFields, MaskedAuth},
        error::RestError,
        shapes::{self, Listing, Provenance, Who, time},
    },
    services::Services,
};

/// How long a registration waits for the gateway to be read.
const WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A gateway as it is written.
#[derive(Debug, Deserialize)]
struct GatewayCreate {
    name: Option<String>,
    url: Option<String>,
    description: Option<String>,
    transport: Option<String>,
    #[serde(alias = "passthroughHeaders")]
    passthrough_headers: Option<Listed>,
    tags: Option<Listed>,
    #[serde(flatten)]
    auth: AuthFields,
}

impl GatewayCreate {
    fn draft(self) -> Result<UpstreamDraft, Invalid> {
        let called = body::called::<UpstreamName>(self.name)?;
        if self.passthrough_headers.is_some_and(|headers| !headers.items().is_empty()) {
            return Err(Invalid::new("passthrough_headers", "is not served yet"));
        }
        let url = self.url.ok_or_else(|| Invalid::missing("url"))?;
        let transport = transport_of(self.transport.as_deref(), url)?;
        UpstreamDraft::try_from(wire::Upstream {
            name: called.name,
            title: called.title,
            description: self.description.unwrap_or_default(),
            transport: Some(transport),
            credential: self.auth.credential()?,
            tags: self.tags.map(Listed::items).unwrap_or_default(),
            ..wire::Upstream::default()
        })
    }
}

/// Without a transport the URL's scheme tells, and which HTTP transport it is the server does;
/// `ContextForge`'s default is SSE.
fn transport_of(
    transport: Option<&str>,
    url: String,
) -> Result<wire::upstream::Transport, Invalid> {
    use wire::upstream::Transport as Wire;
    let word: String =
        transport.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    let is_websocket = ["ws:", "wss:"].iter().any(|scheme| url.starts_with(scheme));
    match word.to_ascii_uppercase().as_str() {
        "" if is_websocket => Ok(Wire::Websocket(wire::WebSocketTransport { url })),
        "" | "STREAMABLEHTTP" | "HTTP" => Ok(Wire::Http(wire::HttpTransport { url })),
        "SSE" => Ok(Wire::Sse(wire::SseTransport { url })),
        "WEBSOCKET" | "WS" => Ok(Wire::Websocket(wire::WebSocketTransport { url })),
        _ => Err(Invalid::new("transport", "must be STREAMABLEHTTP, SSE or WEBSOCKET")),
    }
}

/// A transport as `ContextForge` spells it.
pub(crate) fn transport_word(transport: &Transport) -> &'static str {
    match transport {
        Transport::Http { .. } => "STREAMABLEHTTP",
        Transport::Sse { .. } => "SSE",
        Transport::WebSocket { .. } => "WEBSOCKET",
        Transport::Stdio(_) => "STDIO",
    }
}

/// A gateway as it is read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GatewayRead {
    id: String,
    name: String,
    slug: String,
    url: Option<String>,
    description: String,
    transport: &'static str,
    capabilities: Value,
    created_at: Option<String>,
    updated_at: Option<String>,
    enabled: bool,
    reachable: bool,
    last_seen: Option<String>,
    passthrough_headers: Option<Vec<String>>,
    #[serde(flatten)]
    auth: MaskedAuth,
    oauth_config: Option<Value>,
    tags: Vec<String>,
    #[serde(flatten)]
    provenance: Provenance,
}

impl From<Upstream> for GatewayRead {
    fn from(upstream: Upstream) -> Self {
        let Upstream {
            id,
            name,
            title,
            description,
            transport,
            credential,
            catalog_scope: _,
            disabled,
            tags,
            status,
            resource_version,
            create_time_ms,
            update_time_ms,
        } = upstream;
        // Only tools are taken from upstreams yet, whatever else they offer.
        let capabilities =
            if status.discovered_time_ms == 0 { json!({}) } else { json!({ "tools": {} }) };
        Self {
            id,
            slug: slug(name.as_str()),
            name: if title.is_empty() { name.to_string() } else { title },
            url: transport.url().map(ToString::to_string),
            description,
            transport: transport_word(&transport),
            capabilities,
            created_at: time(create_time_ms),
            updated_at: time(update_time_ms),
            enabled: !disabled,
            reachable: status.phase == Phase::Ready,
            last_seen: time(status.discovered_time_ms),
            passthrough_headers: None,
            auth: MaskedAuth::of(credential.as_ref()),
            oauth_config: None,
            tags,
            provenance: Provenance::of(resource_version),
        }
    }
}

/// How a registration ended.
enum Registered {
    Ready(Box<Upstream>),
    /// Taken away again; with the reason.
    Unreachable(String),
}

/// Registers and waits for the first reading of the catalog. What cannot be
/// read in time is taken away again, as ContextForge does.
async fn register(
    services: &Services,
    caller: &Caller,
    draft: UpstreamDraft,
) -> Result<Registered, Error> {
    let registry = &services.registry;
    let made = registry.create_upstream(caller, draft, WriteOptions::default()).await?;
    let end = Instant::now() + WAIT;
    let reason = loop {
        let now = registry.get_upstream(caller, &made.id).await?;
        match now.status.phase {
            Phase::Ready => return Ok(Registered::Ready(Box::new(now))),
            Phase::Failed => {
                let reason = now.status.reason.map_or("unknown", |reason| reason.as_str());
                break format!("{reason}: {}", now.status.message);
            }
            Phase::Disabled => break "it was disabled meanwhile".to_owned(),
            Phase::Pending if Instant::now() >= end => {
                break format!("no answer within {} s", WAIT.as_secs());
            }
            Phase::Pending => sleep(LOOK_EVERY).await,
        }
    };
    registry.delete_upstream(caller, &made.id, None, WriteOptions::default()).await?;
    Ok(Registered::Unreachable(reason))
}

pub(crate) async fn create(
    State(services): State<Services>,
    Extension(caller): Who,
    body: Bytes,
) -> Result<Response, RestError> {
    caller.require(Permission::RegistryWrite)?;
    let create: GatewayCreate = body::read(&body, "gateway")?;
    let draft = create.draft()?;
    // On its own, so that it comes to its end when the client goes away.
    let (sender, answer) = oneshot::channel();
    let tasks = services.tasks.clone();
    tasks.detach(async move {
        sender.send(register(&services, &caller, draft).await).ok();
    });
    let registered = answer.await.map_err(|error| Error::Internal(error.into()))?;
    Ok(match registered {
        Ok(Registered::Ready(upstream)) => Json(GatewayRead::from(*upstream)).into_response(),
        Ok(Registered::Unreachable(reason)) => {
            let body = json!({ "message": "Unable to connect to gateway", "detail": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
        Err(Error::AlreadyExists { .. }) => {
            let body = json!({ "message": "Gateway name already exists" });
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
        Err(error) => RestError::from(error).into_response(),
    })
}

pub(crate) async fn list(
    State(services): State<Services>,
    Extension(caller): Who,
    Query(query): Listing,
) -> Result<Response, RestError> {
    let registry = &services.registry;
    let upstreams = shapes::all(|page| registry.list_upstreams(&caller, page)).await?;
    let shown = upstreams
        .into_iter()
        .filter(|it| query.wants(&it.tags) && !(it.disabled && query.hides_inactive()));
    let answer: Vec<GatewayRead> = shown.map(GatewayRead::from).collect();
    Ok(Json(answer).into_response())
}

pub(crate) async fn read(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    let upstream = services.registry.get_upstream(&caller, &id).await?;
    Ok(Json(GatewayRead::from(upstream)).into_response())
}

pub(crate) async fn delete(
    State(services): State<Services>,
    Extension(caller): Who,
    Path(id): Path<String>,
) -> Result<Response, RestError> {
    services.registry.delete_upstream(&caller, &id, None, WriteOptions::default()).await?;
    Ok(shapes::deleted("Gateway", &id).into_response())
}
