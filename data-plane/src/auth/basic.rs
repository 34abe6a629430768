//! HTTP Basic: the administrator's password against its argon2 hash, slow the first time.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{Principal, Role, Secret};
use sha2::{Digest as _, Sha256};

use super::{AuthError, AuthOutcome, Cache, Trust, Verdict, cache::SlowPermit};

/// The one user that a configuration names.
#[derive(Debug)]
pub(super) struct Basic {
    user: Box<str>,
    hash: Arc<str>,
}

impl Basic {
    /// `None` if `hash` is no argon2 hash.
    pub(super) fn new(user: &str, hash: &str) -> Option<Self> {
        PasswordHash::new(hash).ok()?;
        Some(Self { user: user.into(), hash: hash.into() })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }
}

/// A password to be checked off the request's thread (tens of milliseconds).
#[derive(Debug)]
pub struct SlowCheck {
    user: Box<str>,
    password: Secret<String>,
    hash: Arc<str>,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    permit: SlowPermit,
}

impl SlowCheck {
    /// Checks the password and remembers that it was right.
    pub fn run(self) -> Result<Arc<Principal>, AuthError> {
        let hash = PasswordHash::new(&self.hash).map_err(|_| AuthError::WrongPassword)?;
        Argon2::default()
            .verify_password(self.password.expose().as_bytes(), &hash)
            .map_err(|_| AuthError::WrongPassword)?;
        let principal = Arc::new(Principal::new(&self.user, Role::Admin));
        let verdict =
            Verdict { principal: Arc::clone(&principal), not_before_ms: None, expire_ms: None };
        self.permit.cache().remember(&self.digest, self.fingerprint, verdict);
        Ok(principal)
    }
}

/// Whether the pair is known to be right; else what has to be checked.
pub(super) fn check(
    trust: &Trust,
    credential: &str,
    now_ms: i64,
    cache: &Arc<Cache>,
) -> Result<AuthOutcome, AuthError> {
    let bytes = STANDARD.decode(credential).map_err(|_| AuthError::Malformed)?;
    let pair = Secret::new(String::from_utf8(bytes).map_err(|_| AuthError::Malformed)?);
    let (user, password) = pair.expose().split_once(':').ok_or(AuthError::Malformed)?;
    let basic = trust.basic.as_ref().ok_or(AuthError::WrongPassword)?;
    // The cache keeps a digest of the pair, never the password.
    let mut hash = Sha256::new();
    hash.update(b"lockgate basic v1");
    hash.update(pair.expose().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    if let Some(verdict) = cache.find(&digest, &trust.fingerprint) {
        return verdict.at(now_ms).map(AuthOutcome::Known);
    }
    if user != basic.user() {
        return Err(AuthError::WrongPassword);
    }
    Ok(AuthOutcome::NeedsSlowCheck(SlowCheck {
        user: user.into(),
        password: password.into(),
        hash: Arc::clone(&basic.hash),
        digest,
        fingerprint: trust.fingerprint,
        permit: cache.begin_slow_check()?,
    }))
}
