//! Management paths and gRPC on the proxy's port, passed on to the control plane.

use std::{convert::Infallible, fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceExt as _};

use crate::config::Management;

/// Any error of a forwarded body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way between client and control plane.
pub type ForwardedBody = UnsyncBoxBody<Bytes, BoxError>;

/// The address of the client, in the extensions of requests to a [`ManagementService`].
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub SocketAddr);

/// The control plane's management API in the same process.
#[derive(Clone)]
pub struct ManagementService(Arc<dyn Fn(Request<ForwardedBody>) -> InProcessAnswer + Send + Sync>);

type InProcessAnswer = Pin<Box<dyn Future<Output = Response<ForwardedBody>> + Send>>;

impl ManagementService {
    /// Takes any HTTP service, for example an `axum::Router`.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<ForwardedBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request| {
            // No async block: in one, the compiler forgets the lifetime in `BoxError`.
            Box::pin(service.clone().oneshot(request).map(|answer| {
                let response = answer.unwrap_or_else(|never| match never {});
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            }))
        }))
    }
}

impl fmt::Debug for ManagementService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ManagementService")
    }
}

/// The way to the control plane's management API, where there is one.
pub(crate) enum Forward {
    Off,
    InProcess(ManagementService),
    Remote(Box<Remote>),
}

/// A control plane elsewhere: one client per HTTP version, since gRPC needs HTTP/2.
pub(crate) struct Remote {
    base: Uri,
    http1: Connections,
    http2: Connections,
}

type Connections = Client<HttpsConnector<HttpConnector>, ForwardedBody>;

/// Why a management request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("this proxy serves no management paths")]
    Off,
    #[error("the control plane cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("the request target cannot be forwarded")]
    Target(#[source] http::Error),
}

/// Headers that belong to one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes off what belongs to one connection.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

impl Forward {
    pub(crate) fn new(management: Management) -> Self {
        match management {
            Management::Off => Self::Off,
            Management::InProcess(service) => Self::InProcess(service),
            Management::Remote(base) => Self::Remote(Box::new(Remote::new(base))),
        }
    }

    /// Passes a request on and gives the answer's head as soon as it is there.
    ///
    /// Boxed, so that requests that stay here do not carry its size.
    pub(crate) fn send(
        &self,
        mut request: Request<ForwardedBody>,
        client: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Result<Response<ForwardedBody>, ForwardError>> + Send + '_>>
    {
        request.extensions_mut().insert(ClientAddress(client));
        match self {
            Self::Off => Box::pin(std::future::ready(Err(ForwardError::Off))),
            Self::InProcess(service) => {
                let answer = (service.0)(request);
                Box::pin(async move { Ok(answer.await) })
            }
            Self::Remote(remote) => Box::pin(remote.send(request, client)),
        }
    }
}

impl Remote {
    fn new(base: Uri) -> Self {
        let connector = |versions: Versions| {
            let mut tcp = HttpConnector::new();
            tcp.set_nodelay(true);
            tcp.enforce_http(false);
            tcp.set_connect_timeout(Some(Duration::from_secs(5)));
            let builder = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http();
            match versions {
                Versions::Http1 => builder.enable_http1().wrap_connector(tcp),
                Versions::Http2 => builder.enable_http2().wrap_connector(tcp),
            }
        };
        Self {
            base,
            http1: Client::builder(TokioExecutor::new()).build(connector(Versions::Http1)),
            http2: Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector(Versions::Http2)),
        }
    }

    async fn send(
        &self,
        mut request: Request<ForwardedBody>,
        client: SocketAddr,
    ) -> Result<Response<ForwardedBody>, ForwardError> {
        let mut target = self.base.clone().into_parts();
        target.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() =
            Uri::from_parts(target).map_err(|error| ForwardError::Target(error.into()))?;
        let is_grpc = is_grpc(request.headers());
        let headers = request.headers_mut();
        strip_hop_by_hop(headers);
        if let Some(host) = headers.remove(header::HOST) {
            headers.insert("x-forwarded-host", host);
        }
        if let Ok(address) = HeaderValue::from_str(&client.ip().to_string()) {
            headers.insert("x-forwarded-for", address);
        }
        *request.version_mut() = Version::default();
        let connections = if is_grpc { &self.http2 } else { &self.http1 };
        let mut response = connections.request(request).await.map_err(ForwardError::Unreachable)?;
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

enum Versions {
    Http1,
    Http2,
}

/// Whether a request is gRPC, which on this port always belongs to the control plane.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
