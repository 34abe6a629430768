//! The one table of failures: which situation is answered how, and logged how loud.

use bytes::Bytes;
use http::StatusCode;
use proto::Era;
use tracing::Level;

use crate::{
    auth::AuthError,
    limit::LimitError,
    mcp::{self, code, version::Refusal},
    route::RouteError,
    upstream::{CallError, CallFailure},
};

/// What can go wrong with a request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("this gateway is getting ready and has no configuration yet, try again")]
    NotConfigured,
    #[error("this host is not served here: add it to the allowed hosts")]
    Host,
    #[error("this origin may not call: add it to the allowed origins")]
    Origin,
    #[error(transparent)]
    Unauthenticated(#[from] AuthError),
    #[error("this needs the administrator")]
    Forbidden,
    #[error("no such path")]
    NotFound,
    #[error("this path takes {0} only")]
    Method(&'static str),
    #[error("this path takes WebSocket handshakes over HTTP/1.1 only")]
    UpgradeRequired,
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
    #[error("the body is not UTF-8")]
    NotText,
    #[error("the body is not JSON")]
    NotJson,
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("there is no such stream: open it with GET first")]
    StreamUnknown,
    #[error("the Mcp-Session-Id header is missing: initialize first")]
    SessionMissing,
    #[error("the session is unknown or has ended: initialize again")]
    SessionUnknown,
    #[error("the stream to go on with is unknown or was given up")]
    StreamGone,
    #[error("the session has too many calls running")]
    TooManyCalls,
    #[error("this principal has too many streams open")]
    TooManyStreams,
    #[error("the request id is in use by a running call")]
    DuplicateId,
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// By the protocol's own rules for eras and mirror headers.
    #[error(transparent)]
    Protocol(#[from] Refusal),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("the request was cancelled")]
    Cancelled,
    #[error("{}", .0.for_caller())]
    Call(CallError),
    #[error("the upstream ended its answer without a response")]
    NoResponse,
    #[error("the control plane cannot be reached")]
    Management,
    /// A request that another proxy may have received.
    #[error("the proxy that holds the session went away during the request")]
    OwnerLost,
    #[error(
        "the call that waited for this input is no longer there: it may have run in part, and is not run again by itself"
    )]
    ParkedLost,
    #[error("the page that the upstream wants its user to visit was declined")]
    NotVisited,
    #[error("too many calls of this principal wait for input: go on with some of them")]
    TooManyParked,
    #[error("the upstream asks for input that this client cannot be asked for")]
    NobodyToAsk,
    #[error("the upstream asked for input too often during one call")]
    TooManyRounds,
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
            Self::Host | Self::Origin | Self::Forbidden => {
                (S::FORBIDDEN, code::REFUSED, Level::INFO)
            }
            Self::Unauthenticated(AuthError::Busy) => {
                (S::SERVICE_UNAVAILABLE, code::REFUSED, Level::WARN)
            }
            Self::Unauthenticated(_) => (S::UNAUTHORIZED, code::REFUSED, Level::INFO),
            Self::NotFound => (S::NOT_FOUND, code::REFUSED, Level::DEBUG),
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, code::REFUSED, Level::DEBUG),
            Self::UpgradeRequired => (S::UPGRADE_REQUIRED, code::REFUSED, Level::DEBUG),
            Self::UrlTooLong { .. } => (S::URI_TOO_LONG, code::REFUSED, Level::INFO),
            Self::ContentType | Self::ContentEncoding => {
                (S::UNSUPPORTED_MEDIA_TYPE, code::REFUSED, Level::INFO)
            }
            Self::NotAcceptable => (S::NOT_ACCEPTABLE, code::REFUSED, Level::INFO),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, code::REFUSED, Level::INFO),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, code::REFUSED, Level::INFO),
            Self::BodyBroken => (S::BAD_REQUEST, code::REFUSED, Level::DEBUG),
            Self::NotText | Self::NotJson => (S::BAD_REQUEST, code::PARSE_ERROR, Level::INFO),
            Self::InvalidRequest(_) | Self::DuplicateId => {
                (S::BAD_REQUEST, code::INVALID_REQUEST, Level::INFO)
            }
            Self::SessionMissing | Self::StreamGone => (S::BAD_REQUEST, code::REFUSED, Level::INFO),
            Self::SessionUnknown | Self::StreamUnknown => {
                (S::NOT_FOUND, code::SESSION_NOT_FOUND, Level::INFO)
            }
            Self::TooManyCalls | Self::TooManyStreams | Self::Limit(LimitError::Principal) => {
                (S::TOO_MANY_REQUESTS, code::REFUSED, Level::WARN)
            }
            Self::Limit(LimitError::Proxy) => (S::SERVICE_UNAVAILABLE, code::REFUSED, Level::WARN),
            Self::Protocol(Refusal { status, code, .. }) => {
                (S::from_u16(*status).unwrap_or(S::BAD_REQUEST), *code, Level::INFO)
            }
            Self::Route(error) => route_line(error),
            Self::Cancelled => (S::OK, CANCELLED, Level::DEBUG),
            // In band, since many clients lose the body of any other status.
            Self::Call(_)
            | Self::NoResponse
            | Self::OwnerLost
            | Self::TooManyRounds
            | Self::NobodyToAsk => (S::OK, code::INTERNAL_ERROR, Level::WARN),
            Self::ParkedLost | Self::NotVisited => (S::OK, code::INTERNAL_ERROR, Level::INFO),
            Self::TooManyParked => (S::OK, code::REFUSED, Level::WARN),
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
        let waits = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        waits.contains(&self.line().status).then_some(1)
    }

    /// The value of `error_type` in metrics.
    pub(crate) fn error_type(&self) -> &'static str {
        if let Self::Call(CallError { failure, .. }) = self
            && is_timeout(failure)
        {
            return "timeout";
        }
        match self.line().code {
            CANCELLED => "cancelled",
            code::INVALID_REQUEST => "-32600",
            code::METHOD_NOT_FOUND => "-32601",
            code::INVALID_PARAMS => "-32602",
            code::INTERNAL_ERROR => "-32603",
            code::HEADER_MISMATCH => "-32020",
            code::MISSING_CLIENT_CAPABILITY => "-32021",
            code::UNSUPPORTED_VERSION => "-32022",
            _ => "_other",
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
            | Self::TooManyCalls
            | Self::TooManyStreams
            | Self::TooManyParked
            | Self::Limit(_) => "limit",
            Self::ContentType | Self::ContentEncoding | Self::NotAcceptable => "media_type",
            Self::SessionMissing
            | Self::SessionUnknown
            | Self::StreamUnknown
            | Self::StreamGone => "session",
            Self::NotFound | Self::Method(_) | Self::UpgradeRequired => "path",
            Self::BodyBroken
            | Self::NotText
            | Self::NotJson
            | Self::InvalidRequest(_)
            | Self::DuplicateId
            | Self::Protocol(_)
            | Self::Route(_)
            | Self::Cancelled
            | Self::Call(_)
            | Self::NoResponse
            | Self::Management
            | Self::OwnerLost
            | Self::ParkedLost
            | Self::NotVisited
            | Self::TooManyRounds
            | Self::NobodyToAsk
            | Self::Internal(_) => "message",
        }
    }

    /// Writes the failure to the log, once, where it becomes an answer.
    pub(crate) fn log(&self) {
        let Line { status, code, level } = self.line();
        let status = status.as_u16();
        let detail = if let Self::Internal(detail) = self { detail } else { "" };
        let whole: &dyn std::fmt::Display = match self {
            Self::Call(error) => error,
            failure => failure,
        };
        match level {
            Level::ERROR => tracing::error!(status, code, detail, "{whole}"),
            Level::WARN => tracing::warn!(status, code, "{whole}"),
            Level::INFO => tracing::info!(status, code, "{whole}"),
            _ => tracing::debug!(status, code, "{whole}"),
        }
    }

    /// Raw JSON for `error.data`.
    fn data(&self) -> Option<String> {
        if let Self::Call(CallError { upstream, .. }) = self {
            return Some(format!(r#"{{"upstream":{}}}"#, mcp::response::quote(upstream)));
        }
        if let Self::Protocol(Refusal { data, .. }) = self {
            return data.clone();
        }
        if let Self::Route(RouteError::UnknownResource { uri, .. }) = self {
            return Some(format!(r#"{{"uri":{}}}"#, mcp::response::quote(uri)));
        }
        if let Self::Route(RouteError::MissingCapability { required, .. }) = self {
            return Some(format!(r#"{{"requiredCapabilities":{required}}}"#));
        }
        None
    }
}

fn route_line(error: &RouteError) -> (StatusCode, i64, Level) {
    use StatusCode as S;
    match error {
        RouteError::UnknownServer(_) => (S::NOT_FOUND, code::REFUSED, Level::INFO),
        // The modern era's 404 comes from the ladder, before routing, or is of the next line.
        RouteError::UnknownMethod(_) | RouteError::UnservedMethod { era: Era::Legacy, .. } => {
            (S::OK, code::METHOD_NOT_FOUND, Level::INFO)
        }
        RouteError::UnservedMethod { era: Era::Modern, .. } => {
            (S::NOT_FOUND, code::METHOD_NOT_FOUND, Level::INFO)
        }
        RouteError::UnknownResource { era: Era::Legacy, .. } => {
            (S::OK, code::RESOURCE_NOT_FOUND, Level::INFO)
        }
        RouteError::UnknownTool(_)
        | RouteError::UnknownPrompt(_)
        | RouteError::UnknownResource { era: Era::Modern, .. }
        | RouteError::UnknownTemplate(_)
        | RouteError::Undeclarable(_)
        | RouteError::InvalidParams(_) => (S::OK, code::INVALID_PARAMS, Level::INFO),
        // Legacy clients know no code for it and lose the body of other statuses.
        RouteError::MissingCapability { era: Era::Legacy, .. } => {
            (S::OK, code::INTERNAL_ERROR, Level::INFO)
        }
        RouteError::MissingCapability { era: Era::Modern, .. } => {
            (S::BAD_REQUEST, code::MISSING_CLIENT_CAPABILITY, Level::INFO)
        }
        RouteError::UnexpectedResponse => (S::BAD_REQUEST, code::INVALID_REQUEST, Level::INFO),
        RouteError::Forbidden => (S::FORBIDDEN, code::REFUSED, Level::INFO),
    }
}

fn is_timeout(failure: &CallFailure) -> bool {
    matches!(failure, CallFailure::Silent(_) | CallFailure::TooLong(_) | CallFailure::NoTurn(_))
}

/// A JSON-RPC error response. `id` is the request's id as written; without one, null.
pub(crate) fn response(failure: &Failure, id: Option<&[u8]>) -> Bytes {
    let message = failure.to_string();
    mcp::response::error(id, failure.line().code, &message, failure.data().as_deref())
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
}
