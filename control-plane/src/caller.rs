//! Who asks, and the one question whether they may.

use proto::{Permission, Principal, Role, policy};

use crate::error::Error;

/// An authenticated caller of a use case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub principal: Principal,
    /// How it proved itself: `token`, `jwt`, `access-token`, `basic`, `socket`.
    pub authentication: &'static str,
}

impl Caller {
    /// The way of our own short-lived tokens, which must not beget others.
    pub const ACCESS_TOKEN: &'static str = "access-token";

    pub fn new(principal: Principal, authentication: &'static str) -> Self {
        Self { principal, authentication }
    }

    /// The person who can reach the control socket: the owner of the data directory.
    pub fn local_admin(user: &str) -> Self {
        Self::new(Principal::new(user, Role::Admin), "socket")
    }

    pub fn subject(&self) -> &str {
        &self.principal.subject
    }

    /// The line that every use case begins with.
    pub fn require(&self, permission: Permission) -> Result<(), Error> {
        if policy::is_allowed(self.principal.role, permission) {
            return Ok(());
        }
        Err(Error::Forbidden { subject: self.subject().to_owned(), permission })
    }
}
