//! Who calls: from an `Authorization` header to a principal, without a network.
//!
//! Everything that can be believed comes with the configuration (`Trust`), so a
//! revoked token or key is refused as soon as the next configuration is active.

pub mod basic;
pub mod cache;
pub mod jwt;

use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use proto::{
    Principal, Role, Secret,
    proxy::FieldError,
    resource::{Key, KeyResource, TokenResource},
    token,
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use self::{basic::Basic, jwt::JwtKeys};
pub use self::{
    basic::SlowCheck,
    cache::{Cache, Verdict},
};
use crate::snapshot::table::Table;

/// Longest credential that is looked at, in bytes.
const CREDENTIAL_MAX: usize = 8 * 1024;

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("an `Authorization` header is required")]
    Missing,
    #[error("the `Authorization` header is not understood: send `Bearer TOKEN`")]
    Malformed,
    #[error("the token is unknown or was revoked")]
    UnknownToken,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is signed with a key that is not trusted here, or altered")]
    BadSignature,
    #[error("the token's claims are missing or wrong")]
    BadClaims,
    #[error("user name or password is wrong")]
    WrongPassword,
    /// Password checks are slow on purpose, so only a few run at a time.
    #[error("too many passwords are being checked: try again, or use a token")]
    Busy,
}

/// What came out of looking at a request.
#[derive(Debug)]
pub enum AuthOutcome {
    Known(Arc<Principal>),
    /// A password that nobody has checked yet: to be run where waiting is allowed.
    NeedsSlowCheck(SlowCheck),
}

/// Whom a proxy serves.
#[derive(Clone, Default)]
pub enum Admission {
    /// Those that the configuration knows.
    #[default]
    Known,
    /// Everybody who reaches it, with or without credentials, as one principal.
    Anybody,
    /// Everybody with this one bearer token, as one principal.
    Bearer(Secret<String>),
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Known => "Known",
            Self::Anybody => "Anybody",
            Self::Bearer(_) => "Bearer",
        })
    }
}

/// Everything that one configuration lets us believe.
#[derive(Debug, Default)]
pub struct Trust {
    pub(crate) admission: Admission,
    tokens: AHashMap<[u8; 32], Grant>,
    jwt: JwtKeys,
    basic: Option<Basic>,
    /// Of all keys: what was verified under other keys must be verified again.
    fingerprint: [u8; 32],
}

#[derive(Debug)]
struct Grant {
    principal: Arc<Principal>,
    expire_time_ms: Option<i64>,
}

impl Trust {
    /// Session keys among `keys` are not for us.
    pub fn compile<'a>(
        tokens: impl IntoIterator<Item = &'a TokenResource>,
        keys: impl IntoIterator<Item = &'a KeyResource>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut trust = Self::default();
        for TokenResource { id: _, digest, subject, role, expire_time_ms } in tokens {
            let principal = Arc::new(Principal::new(subject, *role));
            trust.tokens.insert(*digest, Grant { principal, expire_time_ms: *expire_time_ms });
        }
        let mut hash = Sha256::new();
        for KeyResource { id, key, create_time_ms: _ } in keys {
            match key {
                Key::Session(_) => continue,
                Key::JwtHs256(secret) => trust.jwt.trust_hs256(secret.expose()),
                Key::JwtEdDsa(public) => trust.jwt.trust_eddsa(public),
                Key::Basic { user, hash } => match Basic::new(user, hash) {
                    Some(basic) => trust.basic = Some(basic),
                    None => errors.push(FieldError {
                        resource: format!("key/{id}"),
                        field: "material".to_owned(),
                        message: "is not an argon2 hash".to_owned(),
                    }),
                },
            }
            digest_key(&mut hash, id, key);
        }
        trust.fingerprint = hash.finalize().into();
        trust
    }
}

fn digest_key(hash: &mut Sha256, id: &str, key: &Key) {
    let (label, user, material) = match key {
        Key::Session(secret) => ("session", "", secret.expose().as_slice()),
        Key::JwtHs256(secret) => ("hs256", "", secret.expose().as_slice()),
        Key::JwtEdDsa(public) => ("eddsa", "", public.as_slice()),
        Key::Basic { user, hash } => ("basic", user.as_str(), hash.as_bytes()),
    };
    for part in [id.as_bytes(), label.as_bytes(), user.as_bytes(), material] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

/// What a client shows of itself: its `Authorization` header.
#[derive(Clone, Copy)]
pub struct Shown<'h> {
    header: Option<&'h HeaderValue>,
    /// There is another one.
    is_ambiguous: bool,
}

impl<'h> From<&'h HeaderMap> for Shown<'h> {
    fn from(headers: &'h HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        Self { header: values.next(), is_ambiguous: values.next().is_some() }
    }
}

impl<'h> From<Option<&'h HeaderValue>> for Shown<'h> {
    fn from(header: Option<&'h HeaderValue>) -> Self {
        Self { header, is_ambiguous: false }
    }
}

/// Who shows this, at `now_ms`. `cache` remembers slow verdicts.
pub fn authenticate<'h>(
    table: &Table,
    shown: impl Into<Shown<'h>>,
    now_ms: i64,
    cache: &Arc<Cache>,
) -> Result<AuthOutcome, AuthError> {
    let expected = match &table.trust().admission {
        Admission::Known => None,
        Admission::Anybody => return Ok(AuthOutcome::Known(anonymous())),
        Admission::Bearer(token) => Some(token),
    };
    let Shown { header, is_ambiguous } = shown.into();
    let header = header.ok_or(AuthError::Missing)?;
    if is_ambiguous || header.len() > CREDENTIAL_MAX {
        return Err(AuthError::Malformed);
    }
    let header = header.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, credential) = header.split_once(' ').ok_or(AuthError::Malformed)?;
    let credential = credential.trim();
    if let Some(expected) = expected {
        let is_right = scheme.eq_ignore_ascii_case("bearer")
            && bool::from(credential.as_bytes().ct_eq(expected.expose().as_bytes()));
        return if is_right {
            Ok(AuthOutcome::Known(anonymous()))
        } else {
            Err(AuthError::UnknownToken)
        };
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return bearer(table.trust(), credential, now_ms, cache).map(AuthOutcome::Known);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic::check(table.trust(), credential, now_ms, cache);
    }
    Err(AuthError::Malformed)
}

/// Who calls where it does not matter who calls.
fn anonymous() -> Arc<Principal> {
    static ANONYMOUS: OnceLock<Arc<Principal>> = OnceLock::new();
    Arc::clone(ANONYMOUS.get_or_init(|| Arc::new(Principal::new("anonymous", Role::Caller))))
}

fn bearer(
    trust: &Trust,
    secret: &str,
    now_ms: i64,
    cache: &Cache,
) -> Result<Arc<Principal>, AuthError> {
    if secret.starts_with(token::PREFIX) {
        let grant = trust.tokens.get(&token::digest(secret)).ok_or(AuthError::UnknownToken)?;
        return match grant.expire_time_ms {
            Some(expire) if expire <= now_ms => Err(AuthError::Expired),
            Some(_) | None => Ok(Arc::clone(&grant.principal)),
        };
    }
    if let Some(verdict) = cache.find(secret.as_bytes(), &trust.fingerprint) {
        return verdict.at(now_ms);
    }
    let admin = trust.basic.as_ref().map(Basic::user);
    let verdict = trust.jwt.verify(secret, admin)?;
    let principal = verdict.at(now_ms)?;
    cache.remember(secret.as_bytes(), trust.fingerprint, verdict);
    Ok(principal)
}

#[cfg(test)]
mod tests;
