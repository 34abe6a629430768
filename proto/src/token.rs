//! API tokens: `lg_` and 43 characters of randomness; only the digest is kept.

use sha2::{Digest as _, Sha256};

use crate::{Invalid, Role, Secret, TokenName, wire};

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

/// What a new proxy joins with, once: a secret, and the SHA-256 of the control
/// plane's certificate (DER), so that nothing is trusted on first use.
/// Text form: `lgj_{secret}.{fingerprint in hex}`; digested and sent whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The random part, URL-safe base64.
    pub secret: Secret<String>,
    pub fingerprint: [u8; 32],
}

impl JoinToken {
    /// The text that a person carries from the control plane to the new proxy.
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(format!(
            "{JOIN_PREFIX}{}.{}",
            self.secret.expose(),
            fingerprint_text(&self.fingerprint)
        ))
    }

    /// Reads the text form. The error never repeats the secret.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("join", "must be a join token, `lgj_…`, as a whole");
        let rest = text.trim().strip_prefix(JOIN_PREFIX).ok_or_else(wrong)?;
        let (secret, fingerprint) = rest.split_once('.').ok_or_else(wrong)?;
        let fingerprint = parse_fingerprint(fingerprint).ok_or_else(wrong)?;
        if secret.is_empty() {
            return Err(wrong());
        }
        Ok(Self { secret: secret.into(), fingerprint })
    }
}

/// A certificate's SHA-256 as lower-case hex.
pub fn fingerprint_text(fingerprint: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    fingerprint.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Reads 64 hex digits.
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut fingerprint = [0; 32];
    for (index, byte) in fingerprint.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(fingerprint)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_carries_its_fingerprint() {
        let token = JoinToken { secret: "abc-_".into(), fingerprint: [0xa7; 32] };
        assert_eq!(JoinToken::parse(token.to_text().expose()).unwrap(), token);
    }

    #[test]
    fn a_join_token_that_was_cut_is_refused() {
        let text = JoinToken { secret: "abc".into(), fingerprint: [1; 32] }.to_text();
        for end in 0..text.expose().len() {
            assert!(JoinToken::parse(&text.expose()[..end]).is_err());
        }
    }
}
