//! The outcomes that a use case can have besides success.

use proto::{Invalid, Permission};

use crate::store::StoreError;

/// What went wrong, as the caller must hear it. `api/status.rs` and
/// `rest/error.rs` are the only places that turn it into a code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("no valid credential: {0}")]
    Unauthenticated(&'static str),
    #[error("`{subject}` may not do this: it needs the permission {permission:?}")]
    Forbidden { subject: String, permission: Permission },
    #[error("no {kind} named `{name}`")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} `{name}` exists already")]
    AlreadyExists { kind: &'static str, name: String },
    /// Somebody else changed it first.
    #[error("{kind} `{name}` is at version {current}: read it again and repeat the change")]
    Conflict { kind: &'static str, name: String, current: u64 },
    #[error("{kind} `{name}` is still used by {user}: remove it there first")]
    InUse { kind: &'static str, name: String, user: String },
    #[error("{0}")]
    Exhausted(String),
    #[error("the database does not answer: try again")]
    Unavailable(#[source] StoreError),
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_passing() { Self::Unavailable(error) } else { Self::Internal(error.into()) }
    }
}
