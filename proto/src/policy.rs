//! What a principal may do.

use crate::{principal::Role, wire};

/// One kind of action that authorization decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    RegistryRead,
    RegistryWrite,
    /// Defining a command runs code on a proxy.
    StdioDefine,
    TokensRead,
    TokensWrite,
    OperationsRead,
    ProxiesEnrol,
    /// List and call tools.
    Call,
    /// Who am I; a short-lived token of my own.
    SelfService,
}

impl Permission {
    pub const ALL: [Self; 9] = [
        Self::RegistryRead,
        Self::RegistryWrite,
        Self::StdioDefine,
        Self::TokensRead,
        Self::TokensWrite,
        Self::OperationsRead,
        Self::ProxiesEnrol,
        Self::Call,
        Self::SelfService,
    ];
}

impl From<Permission> for wire::Permission {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::RegistryRead => Self::RegistryRead,
            Permission::RegistryWrite => Self::RegistryWrite,
            Permission::StdioDefine => Self::StdioDefine,
            Permission::TokensRead => Self::TokensRead,
            Permission::TokensWrite => Self::TokensWrite,
            Permission::OperationsRead => Self::OperationsRead,
            Permission::ProxiesEnrol => Self::ProxiesEnrol,
            Permission::Call => Self::Call,
            Permission::SelfService => Self::Self_,
        }
    }
}

/// The one authorization function: what a role may do. Deny by default.
pub fn is_allowed(role: Role, permission: Permission) -> bool {
    match role {
        Role::Admin => true,
        Role::Caller => matches!(permission, Permission::Call | Permission::SelfService),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_call_and_nothing_else_of_others() {
        let allowed: Vec<_> =
            Permission::ALL.into_iter().filter(|p| is_allowed(Role::Caller, *p)).collect();
        assert_eq!(allowed, [Permission::Call, Permission::SelfService]);
        assert!(Permission::ALL.into_iter().all(|p| is_allowed(Role::Admin, p)));
    }
}
