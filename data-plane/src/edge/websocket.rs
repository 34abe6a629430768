//! The WebSocket handshake (RFC 6455 §4.2): who comes, and whether it is one.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Client, Edge};
use crate::{
    error::Failure,
    route::Endpoint,
    stream::Served,
    transport::{
        body::Body,
        response,
        websocket::{self, Bounds},
    },
};

/// The subprotocol of the SDKs.
const SUBPROTOCOL: &str = "mcp";

impl Edge {
    /// `GET /ws`: the connection carries messages from here on.
    pub(super) async fn websocket(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        client: &Client,
        served: &Served,
        endpoint: Endpoint,
    ) -> Result<Response<Body>, Failure> {
        let sender = self.sender(request.headers(), client, endpoint).await?;
        let headers = request.headers();
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake(&request));
        let accept = derive_accept_key(key.ok_or(Failure::UpgradeRequired)?.as_bytes());
        let accept = HeaderValue::try_from(accept)
            .map_err(|_| Failure::Internal("a handshake's key is no header"))?;
        let is_mcp_offered = has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let end = self.pipe(&sender)?;
        let bounds = Bounds {
            message_bytes: self.limits.body_bytes,
            keep_alive: self.timeouts.keep_alive,
            patience: self.timeouts.idle,
        };
        let (closing, served) = (self.drain.closing(), served.extend());
        let upgrade = hyper::upgrade::on(&mut request);
        client.upgrade(Box::pin(async move {
            // The timers of HTTP are not for this connection any more.
            let _served = served;
            match upgrade.await {
                Ok(io) => websocket::run(io, end, closing, bounds).await,
                Err(error) => tracing::debug!(%error, "a handshake led to nothing"),
            }
        }));
        let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if is_mcp_offered {
            let mcp = HeaderValue::from_static(SUBPROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, mcp);
        }
        Ok(response)
    }
}

fn is_handshake<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
}

/// Whether one of the comma-separated values is `token`.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    tokens.any(|found| found.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_told_by_its_headers() {
        let request = |connection: &str, version: &str| {
            let request = Request::get("/ws")
                .header("connection", connection)
                .header("upgrade", "WebSocket")
                .header("sec-websocket-version", version);
            is_handshake(&request.body(()).unwrap())
        };
        assert!(request("keep-alive, Upgrade", "13"));
        assert!(!request("keep-alive", "13"));
        assert!(!request("upgrade", "8"));
        assert!(!is_handshake(&Request::get("/ws").body(()).unwrap()));
    }
}
