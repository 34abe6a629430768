//! The one table of failures: which situation is answered how, and logged how loud.

use bytes::Bytes;
use http::StatusCode;
use tracing::Level;

use crate::{
    mcp::code,
    upstream::{CallError, CallFailure},
};

/// What can go wrong with a request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("this proxy has no configuration yet, try again")]
    NotConfigured,
    #[error("this host is not served here: add it to the allowed hosts")]
    Host,
    #[error("this origin may not call: add it to the allowed origins")]
    Origin,
    #[error("{0}")]
    Unauthenticated(String),
    #[error("this needs the administrator")]
    Forbidden,
    #[error("no such path")]
    NotFound,
    #[error("there is no virtual server of this name")]
    UnknownServer,
    #[error("this path takes {0} only")]
    Method(&'static str),
    #[error("the request target is longer than {limit} bytes")]
    UrlTooLong { limit: usize },
    #[error("the content type must be application/json")]
    ContentType,
    #[error("compressed requests are not supported")]
    ContentEncoding,
    #[error("the client must accept application/json or text/event-stream")]
    NotAcceptable,
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the body did not end in time")]
    BodyTimeout,
    #[error("the body was cut off")]
    BodyBroken,
    #[error("the body is not JSON")]
    NotJson,
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("the Mcp-Session-Id header is missing: initialize first")]
    SessionMissing,
    #[error("the session is unknown or has ended: initialize again")]
    SessionUnknown,
    #[error("the MCP-Protocol-Version header differs from the session's version `{session}`")]
    SessionVersion { session: &'static str },
    #[error("the session has too many calls running")]
    TooManyCalls,
    #[error("the request id is in use by a running call")]
    DuplicateId,
    /// Found by the protocol's own rules (era ladder, mirror headers).
    #[error("{message}")]
    Protocol { status: StatusCode, code: i64, message: String, data: Option<String> },
    #[error("the method `{method}` is not supported")]
    UnknownMethod { method: String, status: StatusCode },
    #[error("unknown tool `{0}`")]
    UnknownTool(String),
    #[error("{0}")]
    InvalidParams(String),
    #[error("the request was cancelled")]
    Cancelled,
    #[error("{0}")]
    Call(CallError),
    #[error("the upstream ended its answer without a response")]
    NoResponse,
    #[error("the control plane cannot be reached")]
    Management,
    #[error("internal error, see the proxy's log")]
    Internal(&'static str),
}

/// A request that its client took back. Ours: outside of what JSON-RPC and MCP reserve.
const CANCELLED: i64 = -32800;

/// How a situation is answered.
struct Line {
    status: StatusCode,
    code: i64,
    level: Level,
}

impl Failure {
    fn line(&self) -> Line {
        use StatusCode as S;
        let (status, code, level) = match self {
            Self::NotConfigured => (S::SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Level::WARN),
            Self::Host | Self::Origin => (S::FORBIDDEN, code::REFUSED, Level::INFO),
            Self::Unauthenticated(_) => (S::UNAUTHORIZED, code::REFUSED, Level::INFO),
            Self::Forbidden => (S::FORBIDDEN, code::REFUSED, Level::INFO),
            Self::NotFound => (S::NOT_FOUND, code::REFUSED, Level::DEBUG),
            Self::UnknownServer => (S::NOT_FOUND, code::REFUSED, Level::INFO),
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, code::REFUSED, Level::DEBUG),
            Self::UrlTooLong { .. } => (S::URI_TOO_LONG, code::REFUSED, Level::INFO),
            Self::ContentType | Self::ContentEncoding => {
                (S::UNSUPPORTED_MEDIA_TYPE, code::REFUSED, Level::INFO)
            }
            Self::NotAcceptable => (S::NOT_ACCEPTABLE, code::REFUSED, Level::INFO),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, code::REFUSED, Level::INFO),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, code::REFUSED, Level::INFO),
            Self::BodyBroken => (S::BAD_REQUEST, code::REFUSED, Level::DEBUG),
            Self::NotJson => (S::BAD_REQUEST, code::PARSE_ERROR, Level::INFO),
            Self::InvalidRequest(_) | Self::DuplicateId => {
                (S::BAD_REQUEST, code::INVALID_REQUEST, Level::INFO)
            }
            Self::SessionMissing | Self::SessionVersion { .. } => {
                (S::BAD_REQUEST, code::REFUSED, Level::INFO)
            }
            Self::SessionUnknown => (S::NOT_FOUND, code::SESSION_NOT_FOUND, Level::INFO),
            Self::TooManyCalls => (S::TOO_MANY_REQUESTS, code::REFUSED, Level::WARN),
            Self::Protocol { status, code, .. } => (*status, *code, Level::INFO),
            Self::UnknownMethod { status, .. } => (*status, code::METHOD_NOT_FOUND, Level::INFO),
            Self::UnknownTool(_) | Self::InvalidParams(_) => {
                (S::OK, code::INVALID_PARAMS, Level::INFO)
            }
            Self::Cancelled => (S::OK, CANCELLED, Level::DEBUG),
            // In band, since many clients lose the body of any other status.
            Self::Call(_) | Self::NoResponse => (S::OK, code::INTERNAL_ERROR, Level::WARN),
            Self::Management => (S::BAD_GATEWAY, code::INTERNAL_ERROR, Level::WARN),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, code::INTERNAL_ERROR, Level::ERROR),
        };
        Line { status, code, level }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.line().status
    }

    /// Seconds after which another try makes sense.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        match self {
            Self::NotConfigured | Self::TooManyCalls | Self::Management => Some(1),
            _ => None,
        }
    }

    /// The value of `error_type` in metrics.
    pub(crate) fn error_type(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Call(CallError { failure, .. }) if is_timeout(failure) => "timeout",
            _ => match self.line().code {
                code::INVALID_REQUEST => "-32600",
                code::METHOD_NOT_FOUND => "-32601",
                code::INVALID_PARAMS => "-32602",
                code::INTERNAL_ERROR => "-32603",
                code::HEADER_MISMATCH => "-32020",
                code::MISSING_CLIENT_CAPABILITY => "-32021",
                code::UNSUPPORTED_VERSION => "-32022",
                _ => "_other",
            },
        }
    }

    /// The value of `reason` in the count of refused requests.
    pub(crate) fn refusal(&self) -> &'static str {
        match self {
            Self::NotConfigured => "configuration",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Unauthenticated(_) | Self::Forbidden => "authentication",
            Self::BodyTooLarge { .. }
            | Self::BodyTimeout
            | Self::UrlTooLong { .. }
            | Self::TooManyCalls => "limit",
            Self::ContentType | Self::ContentEncoding | Self::NotAcceptable => "media_type",
            Self::SessionMissing | Self::SessionUnknown | Self::SessionVersion { .. } => "session",
            _ => "message",
        }
    }

    /// Writes the failure to the log, once, where it becomes an answer.
    pub(crate) fn log(&self) {
        let Line { status, code, level } = self.line();
        let status = status.as_u16();
        let detail = match self {
            Self::Internal(detail) => detail,
            _ => "",
        };
        match level {
            Level::ERROR => tracing::error!(status, code, detail, "{self}"),
            Level::WARN => tracing::warn!(status, code, "{self}"),
            Level::INFO => tracing::info!(status, code, "{self}"),
            _ => tracing::debug!(status, code, "{self}"),
        }
    }

    /// Raw JSON for `error.data`.
    fn data(&self) -> Option<String> {
        match self {
            Self::Call(CallError { upstream, .. }) => {
                let upstream = serde_json::to_string(upstream).ok()?;
                Some(format!(r#"{{"upstream":{upstream}}}"#))
            }
            Self::Protocol { data, .. } => data.clone(),
            _ => None,
        }
    }
}

fn is_timeout(failure: &CallFailure) -> bool {
    matches!(failure, CallFailure::Silent(_) | CallFailure::TooLong(_))
}

/// A JSON-RPC error response. `id` is the request's id as written; without one, null.
pub(crate) fn response(failure: &Failure, id: Option<&[u8]>) -> Bytes {
    let id = String::from_utf8_lossy(id.unwrap_or(b"null"));
    let code = failure.line().code;
    let message = serde_json::to_string(&failure.to_string())
        .unwrap_or_else(|_| r#""internal error""#.to_owned());
    let data = failure.data().map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
    let error = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#
    );
    error.into()
}

/// A JSON-RPC response with a result. Both as written.
pub(crate) fn result(id: &[u8], result: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [br#"{"jsonrpc":"2.0","id":"#, id, br#","result":"#, result, b"}"];
    parts.concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_names_its_upstream_and_keeps_the_id() {
        let failure = Failure::Call(CallError {
            upstream: "time".to_owned(),
            failure: CallFailure::NoResponse,
        });
        let body = response(&failure, Some(b"\"a\\u0041\""));
        assert_eq!(
            body,
            r#"{"jsonrpc":"2.0","id":"a\u0041","error":{"code":-32603,"message":"upstream `time` ended its answer without a response","data":{"upstream":"time"}}}"#
        );
        assert_eq!(failure.status(), StatusCode::OK);
    }

    #[test]
    fn an_unreadable_request_is_answered_without_its_id() {
        let body = response(&Failure::NotJson, None);
        assert!(body.starts_with(br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700"#));
    }

    #[test]
    fn results_are_put_into_an_envelope_unchanged() {
        assert_eq!(result(b"1", b"{ }"), r#"{"jsonrpc":"2.0","id":1,"result":{ }}"#);
    }
}
