//! Why a call to an upstream failed: situations with facts, never strings to match on.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use proto::upstream::FailureReason;

use super::spawner::Ended;
use crate::egress::EgressError;

/// A failed call, with the upstream's name for people and `data.upstream`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("upstream `{upstream}` {failure}")]
pub struct CallError {
    pub upstream: String,
    pub failure: CallFailure,
}

/// How far a call came. The text continues "upstream `name` …".
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallFailure {
    #[error("is not configured on this proxy")]
    Unknown,
    #[error("is disabled")]
    Disabled,
    #[error("runs a command, and this proxy may not: start it with --allow-stdio")]
    StdioRefused,
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] Arc<EgressError>),
    #[error("could not be started: {0}")]
    Spawn(String),
    /// It was started too often of late.
    #[error("could not be started: {0}")]
    Resting(String),
    /// It has failed before and is not tried now.
    #[error("{now}; last: {last}")]
    Again { now: Box<Self>, last: String },
    #[error("runs {0} processes already, which is as many as it may")]
    TooManyChildren(usize),
    #[error("cannot be started: this proxy runs {0} processes already, which is as many as it may")]
    ProxyFull(usize),
    #[error("ended while it was working: {0}")]
    Exited(Ended),
    #[error("is overloaded: its queue of {0} messages is full")]
    Busy(usize),
    #[error("refused the gateway with HTTP {status}: check its credential")]
    Auth { status: u16 },
    #[error("answered HTTP {status}: {excerpt}")]
    HttpStatus { status: u16, excerpt: String },
    #[error("answered with content type `{0}` instead of JSON or an event stream")]
    ContentType(String),
    #[error("answered with something that is no JSON-RPC message: {0}")]
    NotJsonRpc(String),
    #[error("answered with the id of another request")]
    WrongId,
    #[error("sent a message of more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("ended its answer without a response")]
    NoResponse,
    #[error("broke the connection: {0}")]
    Broken(String),
    #[error("was silent for {0:?}")]
    Silent(Duration),
    #[error("did not finish within {0:?}")]
    TooLong(Duration),
    #[error("refused the gateway's envelope with error {code}: {message}")]
    Refused { code: i64, message: String },
    #[error("waited {0:?} for another client's answer, and asks one client at a time")]
    NoTurn(Duration),
    #[error("asked for input too often during one call")]
    TooManyRounds,
    #[error("tells nobody of changes of this resource: {0}")]
    Unheard(String),
    #[error("does not tell of changes of this resource: {said}")]
    Declined {
        said: String,
        /// The error as the upstream wrote it, raw JSON.
        error: Bytes,
    },
    #[error("lost its session twice")]
    SessionLost,
    #[error("could not be initialized: {0}")]
    Initialize(String),
    #[error("speaks none of our protocol versions, only {0}")]
    Incompatible(String),
    #[error("was removed or changed while it was working")]
    Gone,
}

/// What was being done when a discovery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Initialize,
    List,
}

impl CallFailure {
    /// The reason that `lockgate get upstreams` shows for a discovery that failed in `step`.
    pub(crate) fn reason(&self, step: Step) -> FailureReason {
        match self {
            Self::Unknown | Self::Disabled | Self::Gone => FailureReason::NoProxy,
            Self::StdioRefused
            | Self::Spawn(_)
            | Self::Resting(_)
            | Self::TooManyChildren(_)
            | Self::ProxyFull(_) => FailureReason::Spawn,
            Self::Unreachable(error) => error.reason(),
            Self::Again { now, last: _ } => now.reason(step),
            Self::Auth { .. } => FailureReason::Auth,
            Self::HttpStatus { .. } => FailureReason::HttpStatus,
            Self::Silent(_) | Self::TooLong(_) | Self::NoTurn(_) => FailureReason::Timeout,
            Self::Initialize(_) => FailureReason::Initialize,
            Self::Incompatible(_) => FailureReason::Incompatible,
            Self::Exited(_)
            | Self::Busy(_)
            | Self::ContentType(_)
            | Self::NotJsonRpc(_)
            | Self::WrongId
            | Self::TooLarge { .. }
            | Self::NoResponse
            | Self::Broken(_)
            | Self::Refused { .. }
            | Self::TooManyRounds
            | Self::Unheard(_)
            | Self::Declined { .. }
            | Self::SessionLost => match step {
                Step::Initialize => FailureReason::Initialize,
                Step::List => FailureReason::List,
            },
        }
    }

    /// Whether the upstream does not want to be greeted so, whenever it is asked.
    pub(crate) fn is_refused_handshake(&self) -> bool {
        // 408 and 429 pass.
        matches!(
            self,
            Self::Initialize(_)
                | Self::Incompatible(_)
                | Self::Refused { .. }
                | Self::HttpStatus { status: 400..=407 | 409..=428 | 430..=499, .. }
        )
    }

    /// Whether it says that the upstream itself is down.
    pub(crate) fn is_down(&self) -> bool {
        matches!(
            self,
            Self::Again { .. }
                | Self::Unreachable(_)
                | Self::Spawn(_)
                | Self::Resting(_)
                | Self::Exited(_)
                | Self::Broken(_)
                | Self::Silent(_)
                | Self::Auth { .. }
                | Self::Initialize(_)
                | Self::Incompatible(_)
        )
    }

    /// The same for callers of tools: without a server's last words, its pages, its paths and its
    /// addresses, which are for the log and for those who administer it.
    pub(crate) fn for_caller(&self) -> Cow<'static, str> {
        match self {
            Self::Unreachable(error) => format!("cannot be reached: {}", error.for_caller()).into(),
            Self::Exited(ended) => format!("ended while it was working: {}", ended.how).into(),
            Self::HttpStatus { status, excerpt: _ } => format!("answered HTTP {status}").into(),
            Self::Again { now, last: _ } => now.for_caller(),
            Self::Spawn(_) => "could not be started".into(),
            Self::NotJsonRpc(_) => "answered with something that is no JSON-RPC message".into(),
            Self::Broken(_) => "broke the connection".into(),
            Self::Refused { code, message: _ } => {
                format!("refused the gateway's envelope with error {code}").into()
            }
            Self::Initialize(_) => "could not be initialized".into(),
            Self::Incompatible(_) => "speaks none of our protocol versions".into(),
            Self::Unknown
            | Self::Disabled
            | Self::StdioRefused
            | Self::Resting(_)
            | Self::TooManyChildren(_)
            | Self::ProxyFull(_)
            | Self::Busy(_)
            | Self::Auth { .. }
            | Self::ContentType(_)
            | Self::WrongId
            | Self::TooLarge { .. }
            | Self::NoResponse
            | Self::Silent(_)
            | Self::TooLong(_)
            | Self::NoTurn(_)
            | Self::TooManyRounds
            | Self::Unheard(_)
            | Self::Declined { .. }
            | Self::SessionLost
            | Self::Gone => self.to_string().into(),
        }
    }
}

impl CallError {
    /// What a caller is told.
    pub(crate) fn for_caller(&self) -> String {
        format!("upstream `{}` {}", self.upstream, self.failure.for_caller())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_what_happened_and_nothing_of_the_inside() {
        let ended = Ended { how: "it ended with exit status: 9".into(), said: "key sk-1".into() };
        let source = std::io::ErrorKind::ConnectionRefused.into();
        let address = "10.1.2.3:80".parse().unwrap();
        let refused = EgressError::Connect { address, source };
        let page = CallFailure::HttpStatus { status: 500, excerpt: "at /srv/app".to_owned() };
        let last = format!("ended: {ended}");
        let waits = CallFailure::Resting("it failed 3 times".to_owned());
        let absent = CallFailure::Spawn("`/srv/x`: No such file".to_owned());
        let login = CallFailure::NotJsonRpc("<html>host-7".to_owned());
        for (failure, told, kept) in [
            (CallFailure::Exited(ended), "working: it ended with exit status: 9", "sk-1"),
            (page, "answered HTTP 500", "/srv/app"),
            (absent, "could not be started", "/srv/x"),
            (login, "no JSON-RPC message", "host-7"),
            (CallFailure::Unreachable(Arc::new(refused)), "reached: no connection", "10.1.2.3"),
            (
                CallFailure::Initialize("error -1: postgres://u:pw@db".to_owned()),
                "could not be initialized",
                "u:pw",
            ),
            (
                CallFailure::Refused { code: -1, message: "no /srv/key".to_owned() },
                "error -1",
                "/srv/key",
            ),
            (CallFailure::Broken("it said bye, host-7".to_owned()), "connection", "host-7"),
            (CallFailure::Incompatible("internal-1".to_owned()), "versions", "internal-1"),
            (CallFailure::Again { now: Box::new(waits), last }, "it failed 3 times", "sk-1"),
        ] {
            let error = CallError { upstream: "up".to_owned(), failure };
            assert!(error.to_string().contains(kept), "{error}");
            let caller = error.for_caller();
            assert!(caller.starts_with("upstream `up` ") && caller.ends_with(told), "{caller}");
        }
    }
}
