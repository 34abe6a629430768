//! The one place where an outcome becomes a REST answer: `{"detail": …}` as ContextForge's.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use proto::Invalid;
use serde_json::{Value, json};

use crate::{api::status::public_text, error::Error};

/// What went wrong, on its way to a REST client.
#[derive(Debug)]
pub(crate) enum RestError {
    Outcome(Error),
    /// The body is not JSON, or not of the right types.
    Malformed(serde_json::Error),
}

impl From<Error> for RestError {
    fn from(error: Error) -> Self {
        Self::Outcome(error)
    }
}

impl From<Invalid> for RestError {
    fn from(invalid: Invalid) -> Self {
        Self::Outcome(invalid.into())
    }
}

impl From<serde_json::Error> for RestError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error)
    }
}

/// An answer of the common shape.
pub(crate) fn detail(status: StatusCode, detail: impl Into<Value>) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "detail": detail.into() })))
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        match self {
            Self::Outcome(error) => outcome(&error),
            Self::Malformed(error) => malformed(&error),
        }
    }
}

/// FastAPI's answer to a body that it cannot read.
fn malformed(error: &serde_json::Error) -> Response {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "type_error",
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => "json_invalid",
    };
    let message = format!("JSON decode error: {error}");
    let violation = json!([{ "type": kind, "loc": ["body", error.column()], "msg": message }]);
    detail(StatusCode::UNPROCESSABLE_ENTITY, violation).into_response()
}

fn outcome(error: &Error) -> Response {
    let text = public_text(error);
    let (status, body) = match error {
        Error::Invalid(invalid) => (StatusCode::UNPROCESSABLE_ENTITY, violations(invalid)),
        Error::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, text.into()),
        Error::Forbidden { .. } => (StatusCode::FORBIDDEN, text.into()),
        Error::NotFound { kind, name } => {
            (StatusCode::NOT_FOUND, format!("{} not found: {name}", noun(kind)).into())
        }
        Error::AlreadyExists { kind, name } => {
            let text = format!("{} already exists with name: {name}", noun(kind));
            (StatusCode::CONFLICT, text.into())
        }
        Error::Conflict { .. } | Error::InUse { .. } => (StatusCode::CONFLICT, text.into()),
        Error::Exhausted(_) => (StatusCode::TOO_MANY_REQUESTS, text.into()),
        Error::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, text.into()),
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, text.into()),
    };
    let mut response = detail(status, body).into_response();
    let hint: Option<(HeaderName, &'static str)> = match error {
        Error::Unauthenticated(_) => Some((header::WWW_AUTHENTICATE, "Bearer")),
        Error::Exhausted(_) | Error::Unavailable(_) => Some((header::RETRY_AFTER, "1")),
        Error::Invalid(_)
        | Error::Forbidden { .. }
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Conflict { .. }
        | Error::InUse { .. }
        | Error::Internal(_) => None,
    };
    if let Some((name, value)) = hint {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// ContextForge's word for a kind of ours.
fn noun(kind: &str) -> String {
    match kind {
        "upstream" => "Gateway".to_owned(),
        kind => {
            let mut letters = kind.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

/// FastAPI's list of violations, with the names that REST clients use.
fn violations(invalid: &Invalid) -> Value {
    let path = invalid.field.replace("rest.method", "request_type").replace("http.url", "url");
    let path = path.strip_prefix("rest.").unwrap_or(&path);
    let parts = path.split('.').filter(|part| !part.is_empty());
    let location: Vec<&str> = std::iter::once("body").chain(parts).collect();
    let (kind, message) = if invalid.problem == "is required" {
        ("missing", "Field required".to_owned())
    } else {
        ("value_error", format!("Value error, {invalid}"))
    };
    json!([{ "type": kind, "loc": location, "msg": message }])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(error: Error) -> (StatusCode, Value) {
        let response = RestError::from(error).into_response();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_wrong_field_looks_like_fastapis() {
        let (status, body) = answer(Invalid::new("rest.url", "is not a URL").into()).await;
        assert_eq!(status, 422);
        let expected = json!({"detail": [{"type": "value_error", "loc": ["body", "url"],
            "msg": "Value error, `rest.url` is not a URL"}]});
        assert_eq!(body, expected);
        let (_, body) = answer(Invalid::missing("name").into()).await;
        assert_eq!(body["detail"][0]["type"], "missing");
    }

    #[tokio::test]
    async fn other_outcomes_have_a_text() {
        let error = Error::NotFound { kind: "upstream", name: "x".to_owned() };
        assert_eq!(
            answer(error).await,
            (StatusCode::NOT_FOUND, json!({"detail": "Gateway not found: x"}))
        );
        let error = Error::AlreadyExists { kind: "tool", name: "x".to_owned() };
        let expected = json!({"detail": "Tool already exists with name: x"});
        assert_eq!(answer(error).await, (StatusCode::CONFLICT, expected));
    }
}
