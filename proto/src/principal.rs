//! Who calls: a stable subject, whatever token it presents.

use std::sync::Arc;

use crate::{invalid::Invalid, wire};

/// What a principal is trusted with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Caller,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "caller" => Ok(Self::Caller),
            "admin" => Ok(Self::Admin),
            _ => Err(Invalid::new("role", "must be `caller` or `admin`")),
        }
    }
}

/// A user, a service account or the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    pub subject: Arc<str>,
    pub role: Role,
}

impl Principal {
    pub fn new(subject: &str, role: Role) -> Self {
        Self { subject: subject.into(), role }
    }
}

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Caller => Self::Caller,
            Role::Admin => Self::Admin,
        }
    }
}

impl TryFrom<wire::Role> for Role {
    type Error = Invalid;

    fn try_from(role: wire::Role) -> Result<Self, Invalid> {
        match role {
            wire::Role::Unspecified | wire::Role::Caller => Ok(Self::Caller),
            wire::Role::Admin => Ok(Self::Admin),
        }
    }
}
