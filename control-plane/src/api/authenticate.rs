//! Headers become a [`Caller`] or a [`ProxyCaller`] in the request's extensions.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use proto::Permission;
use tonic::Status;

use crate::{
    caller::Caller,
    error::Error,
    identity::{Identity, ProxyCaller},
    rest,
};

/// Lets only requests with a valid credential through.
pub(crate) async fn by_headers(
    State(identity): State<Identity>,
    mut request: Request,
    next: Next,
) -> Response {
    match identity.authenticate(request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refuse(request.headers(), error),
    }
}

/// The control socket: whoever can open it owns the data directory.
pub(crate) async fn as_local_admin(
    State(identity): State<Identity>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Caller::local_admin(identity.admin_user()));
    next.run(request).await
}

/// Proxies from outside. A request without credential goes on without a
/// [`ProxyCaller`]: enrolment needs none, everything else asks for it.
pub(crate) async fn as_proxy(
    State(identity): State<Identity>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(http::header::AUTHORIZATION) {
        match identity.authenticate_proxy(request.headers()).await {
            Ok(proxy) => request.extensions_mut().insert(proxy),
            Err(error) => return refuse(request.headers(), error),
        };
    }
    next.run(request).await
}

/// The proxy in this process.
pub(crate) async fn as_local_proxy(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(ProxyCaller::Local);
    next.run(request).await
}

/// Who sent a request that came through one of the doors above.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Error> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or(Error::Unauthenticated("present an `Authorization` header"))
}

/// The same for requests with an object: who may not write it is not told either
/// what is wrong with it. The use case asks again.
pub(crate) fn caller_who_may<T>(
    request: &tonic::Request<T>,
    permission: Permission,
) -> Result<Caller, Error> {
    let caller = caller(request)?;
    caller.require(permission)?;
    Ok(caller)
}

/// Whether a request speaks gRPC, so that its refusal must too.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn refuse(headers: &HeaderMap, error: Error) -> Response {
    tracing::info!(%error, "refused a request");
    if is_grpc(headers) {
        return Status::from(error).into_http::<axum::body::Body>();
    }
    rest::error::RestError::from(error).into_response()
}
