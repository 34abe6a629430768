//! The one place where an outcome becomes a gRPC status with rich details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::Error;

/// Who speaks in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "lockgate";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let (code, reason) = match &error {
            Error::Invalid(invalid) => {
                details.add_bad_request_violation(&invalid.field, &invalid.problem);
                (Code::InvalidArgument, "INVALID")
            }
            Error::Unauthenticated(_) => (Code::Unauthenticated, "UNAUTHENTICATED"),
            Error::Forbidden { .. } => (Code::PermissionDenied, "FORBIDDEN"),
            Error::NotFound { kind, name } => {
                details.set_resource_info(*kind, name, "", "");
                (Code::NotFound, "NOT_FOUND")
            }
            Error::AlreadyExists { kind, name } => {
                details.set_resource_info(*kind, name, "", "");
                (Code::AlreadyExists, "ALREADY_EXISTS")
            }
            Error::Conflict { kind, name, .. } => {
                details.set_resource_info(*kind, name, "", "");
                (Code::Aborted, "CONFLICT")
            }
            Error::InUse { kind, name, .. } => {
                details.set_resource_info(*kind, name, "", "");
                (Code::FailedPrecondition, "IN_USE")
            }
            Error::Exhausted(_) => (Code::ResourceExhausted, "EXHAUSTED"),
            Error::Unavailable(_) => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::Unavailable, "UNAVAILABLE")
            }
            Error::Internal(_) => (Code::Internal, "INTERNAL"),
        };
        details.set_error_info(reason, DOMAIN, HashMap::new());
        Self::with_error_details(code, public_text(&error), details)
    }
}

/// What the caller is told. Failures of ours are logged with an id that the
/// text names, and their cause stays here.
pub(crate) fn public_text(error: &Error) -> String {
    match error {
        Error::Internal(source) => format!("internal error, see log `{}`", log(source.as_ref())),
        Error::Unavailable(source) => {
            log(source);
            error.to_string()
        }
        Error::Invalid(_)
        | Error::Unauthenticated(_)
        | Error::Forbidden { .. }
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Conflict { .. }
        | Error::InUse { .. }
        | Error::Exhausted(_) => error.to_string(),
    }
}

/// Gives the id under which the cause is found.
fn log(cause: &(dyn std::error::Error + 'static)) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    tracing::error!(%id, error = cause, "a request failed");
    id
}

#[cfg(test)]
mod tests {
    use proto::{Invalid, Permission};
    use tonic_types::StatusExt as _;

    use super::*;

    #[track_caller]
    fn becomes(error: Error, code: Code, reason: &str) -> Status {
        let status = Status::from(error);
        assert_eq!(status.code(), code, "{status}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "lockgate"));
        status
    }

    #[test]
    fn each_outcome_has_its_code() {
        let (kind, name) = ("upstream", "time".to_owned());
        becomes(Error::Unauthenticated("x"), Code::Unauthenticated, "UNAUTHENTICATED");
        let (subject, permission) = ("eve".to_owned(), Permission::TokensRead);
        becomes(Error::Forbidden { subject, permission }, Code::PermissionDenied, "FORBIDDEN");
        becomes(Error::NotFound { kind, name: name.clone() }, Code::NotFound, "NOT_FOUND");
        let exists = Error::AlreadyExists { kind, name: name.clone() };
        becomes(exists, Code::AlreadyExists, "ALREADY_EXISTS");
        becomes(
            Error::Conflict { kind, name: name.clone(), current: 7 },
            Code::Aborted,
            "CONFLICT",
        );
        let user = "server dev".to_owned();
        becomes(Error::InUse { kind, name, user }, Code::FailedPrecondition, "IN_USE");
        becomes(Error::Exhausted("slow down".to_owned()), Code::ResourceExhausted, "EXHAUSTED");
    }

    #[test]
    fn a_wrong_field_travels_as_a_path() {
        let invalid = Invalid::new("upstream.http.url", "is not a URL");
        let status = becomes(invalid.into(), Code::InvalidArgument, "INVALID");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "upstream.http.url");
        assert_eq!(violations[0].description, "is not a URL");
    }

    #[test]
    fn causes_inside_stay_inside() {
        let error = Error::Internal("SELECT secret FROM tokens".into());
        let status = becomes(error, Code::Internal, "INTERNAL");
        assert!(status.message().starts_with("internal error, see log `"), "{status}");
        assert!(!status.message().contains("SELECT"));
    }
}
