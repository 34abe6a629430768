//! Sealing of secrets at rest: XChaCha20-Poly1305, bound to the place they belong to.

use std::sync::Arc;

use argon2::Argon2;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use proto::Secret;
use sha2::{Digest as _, Sha256};

/// Marks the format, so that a later one can be told apart.
const FORMAT: &str = "s1.";
const NONCE_LEN: usize = 24;

/// Seals and opens secrets with the key of this installation.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    fingerprint_key: Arc<Secret<[u8; 32]>>,
}

/// Why a sealed secret stays shut. Neither says anything about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("is not in the format of a sealed secret")]
    Format,
    #[error("was sealed with another encryption key, or for another place")]
    WrongKey,
}

impl Sealer {
    pub fn new(key: &Secret<[u8; 32]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"lockgate fingerprint v1");
        hash.update(key.expose());
        Self {
            cipher: XChaCha20Poly1305::new(key.expose().into()),
            fingerprint_key: Arc::new(Secret::new(hash.finalize().into())),
        }
    }

    /// Seals `plain`; it opens only with the same `aad` (`upstream/ID/credential`).
    #[expect(clippy::expect_used, reason = "the cipher refuses only 256 GiB and more")]
    pub fn seal(&self, aad: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: plain, aad: aad.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("secrets are short");
        let whole = [nonce.as_slice(), sealed.as_slice()].concat();
        format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(whole))
    }

    /// Gives back what was sealed.
    pub fn open(&self, aad: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let text = sealed.strip_prefix(FORMAT).ok_or(SealError::Format)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Format)?;
        let (nonce, cipher) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Format)?;
        self.cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: cipher, aad: aad.as_bytes() })
            .map_err(|_| SealError::WrongKey)
    }

    /// Eight hex digits that are equal for equal secrets, and tell nothing without the key.
    pub fn fingerprint(&self, plain: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.fingerprint_key.expose());
        hash.update(plain);
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        hex::encode([a, b, c, d])
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sealer(***)")
    }
}

/// The key that a text given by a person stands for. Slow on purpose: such
/// texts are short. The salt is fixed, as every replica must find the same key.
pub fn key_from_text(text: &Secret<String>) -> Result<Secret<[u8; 32]>, argon2::Error> {
    let mut key = [0; 32];
    Argon2::default().hash_password_into(
        text.expose().as_bytes(),
        b"lockgate encryption key v1",
        &mut key,
    )?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Secret::new([7; 32]))
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let sealed = sealer().seal("upstream/a", b"secret");
        assert!(!sealed.contains("secret"));
        assert_eq!(sealer().open("upstream/a", &sealed).unwrap(), b"secret");
        assert_eq!(sealer().open("upstream/b", &sealed), Err(SealError::WrongKey));
        let other = Sealer::new(&Secret::new([8; 32]));
        assert_eq!(other.open("upstream/a", &sealed), Err(SealError::WrongKey));
        assert_eq!(sealer().open("upstream/a", "plain"), Err(SealError::Format));
        assert_eq!(sealer().open("upstream/a", "s1.AAAA"), Err(SealError::Format));
    }

    #[test]
    fn two_seals_of_one_secret_differ_but_their_fingerprints_do_not() {
        let sealer = sealer();
        assert_ne!(sealer.seal("x", b"s"), sealer.seal("x", b"s"));
        assert_eq!(sealer.fingerprint(b"s"), sealer.fingerprint(b"s"));
        assert_ne!(sealer.fingerprint(b"s"), sealer.fingerprint(b"t"));
        assert_eq!(sealer.fingerprint(b"s").len(), 8);
    }

    #[test]
    fn a_text_always_gives_the_same_key() {
        let key = key_from_text(&"my-test-salt".into()).unwrap();
        assert_eq!(key, key_from_text(&"my-test-salt".into()).unwrap());
    }
}
