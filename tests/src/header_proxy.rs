//! A proxy that adds a bearer token, because the conformance suite cannot send one.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::http_server::{Body, HttpServer, empty};

type Forward = Client<HttpConnector, Incoming>;

struct Target {
    authority: String,
    authorization: HeaderValue,
    client: Forward,
}

/// Forwards everything to `authority` (`host:port`) with `token`; both bodies stream.
///
/// `Host` is replaced only where it is the proxy's own, so that a forged one reaches the target.
pub async fn start(authority: &str, token: &str) -> anyhow::Result<HttpServer> {
    let target = Arc::new(Target {
        authority: authority.to_owned(),
        authorization: HeaderValue::from_str(&format!("Bearer {token}"))?,
        // A connection for each request: a balancer may send each somewhere else.
        client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
    });
    HttpServer::start(move |request| forward(Arc::clone(&target), request)).await
}

async fn forward(target: Arc<Target>, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = Uri::try_from(format!("http://{}{path}", target.authority)) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, target.authorization.clone());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = host.starts_with("127.0.0.1") || host.starts_with("localhost");
    if is_own && let Ok(host) = HeaderValue::from_str(&target.authority) {
        headers.insert(HOST, host);
    }
    match target.client.request(request).await {
        Ok(response) => response.map(relayed),
        Err(_) => empty(StatusCode::BAD_GATEWAY),
    }
}

/// Ends the relayed body where the target's breaks off.
fn relayed(body: Incoming) -> UnsyncBoxBody<Bytes, std::convert::Infallible> {
    use futures_util::StreamExt;
    let frames = http_body_util::BodyStream::new(body)
        .take_while(|frame| std::future::ready(frame.is_ok()))
        .filter_map(|frame| std::future::ready(frame.ok().map(Ok)));
    http_body_util::StreamBody::new(frames).boxed_unsync()
}
