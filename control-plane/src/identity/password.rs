//! The administrator's password: compared cheaply here, hashed slowly for proxies.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use proto::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What HTTP Basic is checked against. The control plane knows the password
/// itself, so that a check is two digests and no slow hash that an attacker
/// could make us compute.
pub(crate) struct Password {
    user: String,
    /// Makes the digests worthless outside of this process.
    key: Secret<[u8; 32]>,
    digest: [u8; 32],
}

impl Password {
    pub(crate) fn new(user: &str, password: &Secret<String>) -> Self {
        let key = Secret::new(rand::random());
        let digest = keyed(&key, user, password.expose());
        Self { user: user.to_owned(), key, digest }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Whether this is the administrator; takes the same time for every wrong pair.
    pub(crate) fn is_right(&self, user: &str, password: &str) -> bool {
        keyed(&self.key, user, password).ct_eq(&self.digest).into()
    }
}

fn keyed(key: &Secret<[u8; 32]>, user: &str, password: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key.expose());
    hash.update(Sha256::digest(user.as_bytes()));
    hash.update(password.as_bytes());
    hash.finalize().into()
}

/// The argon2id hash (PHC text) that proxies check Basic credentials with.
pub(crate) fn hash(password: &Secret<String>) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password.expose().as_bytes())?.to_string())
}

/// Whether a stored hash is of this password.
pub(crate) fn matches(hash: &str, password: &Secret<String>) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_pair_is_right() {
        let password = Password::new("admin", &"correct horse".into());
        assert!(password.is_right("admin", "correct horse"));
        assert!(!password.is_right("admin", "wrong"));
        assert!(!password.is_right("root", "correct horse"));
        assert!(!password.is_right("", ""));
        assert!(!password.is_right("admincorrect", " horse"));
    }

    #[test]
    fn a_hash_knows_its_password() {
        let hash = hash(&"correct horse".into()).unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(matches(&hash, &"correct horse".into()));
        assert!(!matches(&hash, &"battery staple".into()));
        assert!(!matches("nonsense", &"correct horse".into()));
    }
}
