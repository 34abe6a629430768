//! ContextForge's REST interface, first part: the same use cases as gRPC, in its shapes.
//!
//! To add a route: a handler in `rest/nouns.rs` that turns JSON into a draft and
//! an answer into JSON, and a line below.

mod about;
mod body;
mod credential;
pub(crate) mod error;
mod gateways;
mod servers;
mod shapes;
mod tools;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use tonic::Status;

use crate::{api::authenticate::is_grpc, services::Services};

/// Largest body that is read.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// The routes that need a caller.
pub(crate) fn routes() -> Router<Services> {
    let routes: [(&str, MethodRouter<Services>); 8] = [
        ("/version", get(about::version)),
        ("/protocol/initialize", post(about::initialize)),
        ("/tools", get(tools::list).post(tools::create)),
        ("/tools/{id}", get(tools::read).delete(tools::delete)),
        ("/gateways", get(gateways::list).post(gateways::create)),
        ("/gateways/{id}", get(gateways::read).delete(gateways::delete)),
        ("/servers", get(servers::list).post(servers::create)),
        ("/servers/{id}", get(servers::read).delete(servers::delete)),
    ];
    // ContextForge takes a trailing slash without redirect.
    let with_slash = |router: Router<Services>, (path, handler): (&str, MethodRouter<Services>)| {
        router.route(path, handler.clone()).route(&format!("{path}/"), handler)
    };
    routes.into_iter().fold(Router::new(), with_slash).layer(DefaultBodyLimit::max(BODY_MAX))
}

/// The routes for probes, which need none.
pub(crate) fn open_routes() -> Router<Services> {
    Router::new().route("/health", get(about::health)).route("/ready", get(about::ready))
}

/// An unknown path, in the language of the request.
pub(crate) async fn not_found(headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return Status::unimplemented("there is no such method").into_http::<axum::body::Body>();
    }
    error::detail(StatusCode::NOT_FOUND, "Not Found").into_response()
}

/// A known path with another method.
pub(crate) async fn method_not_allowed() -> Response {
    error::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into_response()
}
