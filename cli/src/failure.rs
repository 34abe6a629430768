//! How a command fails: exit code, word, sentence. The only table of exit codes.

use std::{fmt, io};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Exit codes, as the README documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    General = 1,
    Usage = 2,
    NotFound = 3,
    Permission = 4,
    Conflict = 5,
    Unavailable = 6,
    Validation = 7,
    Partial = 8,
}

/// One clear line for a person, and the same as data for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub exit: Exit,
    /// A stable word: `not_found`, `address_in_use` …
    pub code: &'static str,
    pub message: String,
    /// Field paths and what is wrong there.
    pub details: Vec<Detail>,
    /// What to do next.
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Detail {
    pub field: String,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), details: Vec::new(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::Validation, "invalid", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "unavailable", message)
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "timeout", message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done when it failed.
    #[must_use]
    pub(crate) fn during(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &std::path::Path, error: &io::Error) -> Self {
        let (exit, code) = match error.kind() {
            io::ErrorKind::NotFound => (Exit::NotFound, "not_found"),
            io::ErrorKind::PermissionDenied => (Exit::Permission, "permission_denied"),
            _ => (Exit::General, "io"),
        };
        Self::new(exit, code, format!("`{}`: {error}", path.display()))
    }

    /// `{"error":{…}}`, one line.
    pub(crate) fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            details: &'a [Detail],
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
            exit_code: u8,
        }
        #[derive(serde::Serialize)]
        struct Envelope<'a> {
            error: Body<'a>,
        }
        let error = Body {
            code: self.code,
            message: &self.message,
            details: &self.details,
            hint: self.hint.as_deref(),
            exit_code: self.exit as u8,
        };
        serde_json::to_string(&Envelope { error }).unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.message)?;
        for detail in self.details.iter().filter(|detail| !self.message.contains(&detail.message)) {
            write!(formatter, "\n  {}: {}", detail.field, detail.message)?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What the control plane answered. `FailedPrecondition` is a conflict with what is there.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (exit, code) = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => (Exit::Validation, "invalid"),
            Code::NotFound => (Exit::NotFound, "not_found"),
            Code::Unauthenticated => (Exit::Permission, "unauthenticated"),
            Code::PermissionDenied => (Exit::Permission, "permission_denied"),
            Code::AlreadyExists => (Exit::Conflict, "already_exists"),
            Code::Aborted => (Exit::Conflict, "version_conflict"),
            Code::FailedPrecondition => (Exit::Conflict, "failed_precondition"),
            Code::Unavailable => (Exit::Unavailable, "unavailable"),
            Code::DeadlineExceeded | Code::Cancelled => (Exit::Unavailable, "timeout"),
            Code::ResourceExhausted => (Exit::Unavailable, "exhausted"),
            Code::Unimplemented => (Exit::General, "unimplemented"),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
                (Exit::General, "internal")
            }
        };
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
        let details = violations
            .unwrap_or_default()
            .into_iter()
            .map(|violation| Detail { field: violation.field, message: violation.description })
            .collect();
        Self { exit, code, message: status.message().to_owned(), details, hint: None }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_status_has_its_exit_code() {
        let table = [
            (Code::InvalidArgument, 7),
            (Code::NotFound, 3),
            (Code::Unauthenticated, 4),
            (Code::PermissionDenied, 4),
            (Code::AlreadyExists, 5),
            (Code::Aborted, 5),
            (Code::FailedPrecondition, 5),
            (Code::Unavailable, 6),
            (Code::DeadlineExceeded, 6),
            (Code::ResourceExhausted, 6),
            (Code::Internal, 1),
            (Code::Unimplemented, 1),
        ];
        for (code, exit) in table {
            assert_eq!(Failure::from(Status::new(code, "x")).exit as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn fields_of_a_refusal_are_shown_and_are_data() {
        let details = ErrorDetails::with_bad_request_violation("upstream.http.url", "is not a URL");
        let status =
            Status::with_error_details(Code::InvalidArgument, "the upstream is invalid", details);
        let failure = Failure::from(status).hint("write http://…");
        insta::assert_snapshot!(failure, @r"
        the upstream is invalid
          upstream.http.url: is not a URL
        hint: write http://…
        ");
        insta::assert_snapshot!(failure.to_json(), @r#"{"error":{"code":"invalid","message":"the upstream is invalid","details":[{"field":"upstream.http.url","message":"is not a URL"}],"hint":"write http://…","exit_code":7}}"#);
    }
}
