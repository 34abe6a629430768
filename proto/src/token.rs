//! API tokens: `lg_` and 43 characters of randomness; only the digest is kept.

use sha2::{Digest as _, Sha256};

use crate::{Role, TokenName, wire};

/// Marks our tokens for people and secret scanners.
pub const PREFIX: &str = "lg_";
/// Marks the secret a new proxy joins with.
pub const JOIN_PREFIX: &str = "lgj_";
/// Marks the credential of an enrolled proxy.
pub const PROXY_PREFIX: &str = "lgp_";

/// SHA-256 of a token. A random 256-bit secret needs no slow hash.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A token as its owners see it: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub name: TokenName,
    pub subject: String,
    pub role: Role,
    /// First characters of the secret.
    pub prefix: String,
    pub create_time_ms: i64,
    pub expire_time_ms: Option<i64>,
    pub revoke_time_ms: Option<i64>,
    pub resource_version: u64,
}

impl From<Token> for wire::Token {
    fn from(token: Token) -> Self {
        let Token {
            id,
            name,
            subject,
            role,
            prefix,
            create_time_ms,
            expire_time_ms,
            revoke_time_ms,
            resource_version,
        } = token;
        Self {
            id,
            name: name.to_string(),
            subject,
            role: wire::Role::from(role).into(),
            prefix,
            create_time_ms,
            expire_time_ms: expire_time_ms.unwrap_or(0),
            revoke_time_ms: revoke_time_ms.unwrap_or(0),
            resource_version,
        }
    }
}
