//! Session ids of legacy clients: sealed claims, so that any proxy can read them.
//!
//! An id is base64url of `key id ‖ nonce ‖ sealed claims`. Its key comes with the
//! configuration; the newest seals, all open.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use proto::Secret;
use sha2::{Digest as _, Sha256};

use crate::mcp::{Capabilities, version::Version};

/// How long an id lives at most, in milliseconds.
pub const LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How many keys can open.
pub const KEYS_KEPT: usize = 5;
/// Longest id that is looked at, in bytes.
const ID_MAX: usize = 4096;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;
/// Binds the ciphertext to this format.
const AAD: &[u8] = b"lockgate session v1";

/// What an id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaims {
    pub id: [u8; 16],
    /// Hash of the subject that owns the session, see [`principal_hash`].
    pub principal: [u8; 16],
    /// Id of the virtual server; empty for the endpoint of everything.
    pub server: Box<str>,
    pub version: Version,
    pub capabilities: Capabilities,
    /// All that the client declared, if that is more.
    pub written: Option<Arc<str>>,
    /// Id of the proxy that answered `initialize`.
    pub owner: Box<str>,
    pub issued_at_ms: i64,
}

/// Why an id is not taken. To a client all of them are "no such session".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the session id is not one of ours")]
    Malformed,
    #[error("the session id was sealed with a key that is gone")]
    UnknownKey,
    #[error("the session id is forged")]
    Forged,
    #[error("the session id has expired")]
    Expired,
    #[error("there is no key to seal session ids with")]
    NoKey,
}

/// The keys of one configuration, newest first.
#[derive(Clone, Default)]
pub struct SessionKeys(Vec<SessionKey>);

#[derive(Clone)]
struct SessionKey {
    id: [u8; KEY_ID_LEN],
    cipher: XChaCha20Poly1305,
    /// Makes the nonces of what has to be sealed to the same text each time.
    nonces: [u8; 32],
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SessionKeys({})", self.0.len())
    }
}

impl SessionKeys {
    /// `keys` newest first; the first [`KEYS_KEPT`] are used.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret<[u8; 32]>>) -> Self {
        let keys = keys.into_iter().take(KEYS_KEPT).map(|key| {
            let derived = |name: &[u8]| -> [u8; 32] {
                let mut hash = Sha256::new();
                hash.update(name);
                hash.update(key.expose());
                hash.finalize().into()
            };
            let [a, b, c, d, ..] = derived(b"lockgate session key id v1");
            let cipher = XChaCha20Poly1305::new(key.expose().into());
            SessionKey { id: [a, b, c, d], cipher, nonces: derived(b"lockgate nonce key v1") }
        });
        Self(keys.collect())
    }

    /// A new session id: visible ASCII, different each time.
    pub fn seal(&self, claims: &SessionClaims) -> Result<String, SessionError> {
        self.seal_for(AAD, &claims.encode().ok_or(SessionError::Malformed)?)
    }

    /// Seals something for one purpose: what was sealed for another does not open.
    pub fn seal_for(&self, purpose: &[u8], plain: &[u8]) -> Result<String, SessionError> {
        let key = self.0.first().ok_or(SessionError::NoKey)?;
        key.seal(rand::random(), purpose, plain)
    }

    /// The same, but to the same text each time while the newest key stays.
    pub fn seal_same(&self, purpose: &[u8], plain: &[u8]) -> Result<String, SessionError> {
        let key = self.0.first().ok_or(SessionError::NoKey)?;
        // A nonce of this key comes again only with all that it depends on.
        let mut hash = Sha256::new();
        hash.update(key.nonces);
        hash.update((purpose.len() as u64).to_be_bytes());
        hash.update(purpose);
        hash.update(plain);
        let hash: [u8; 32] = hash.finalize().into();
        let nonce = hash.first_chunk::<NONCE_LEN>().ok_or(SessionError::Malformed)?;
        key.seal(*nonce, purpose, plain)
    }

    /// The claims of an id that we sealed and that has not expired.
    pub fn open(&self, id: &str, now_ms: i64) -> Result<SessionClaims, SessionError> {
        if id.len() > ID_MAX {
            return Err(SessionError::Malformed);
        }
        let plain = self.open_for(AAD, id)?;
        let claims = SessionClaims::decode(&plain).ok_or(SessionError::Malformed)?;
        if claims.has_expired(now_ms) {
            return Err(SessionError::Expired);
        }
        Ok(claims)
    }

    /// Opens what [`Self::seal_for`] sealed for this purpose.
    pub fn open_for(&self, purpose: &[u8], text: &str) -> Result<Vec<u8>, SessionError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SessionError::Malformed)?;
        let (key_id, rest) =
            bytes.split_first_chunk::<KEY_ID_LEN>().ok_or(SessionError::Malformed)?;
        let (nonce, sealed) =
            rest.split_first_chunk::<NONCE_LEN>().ok_or(SessionError::Malformed)?;
        let key = self.0.iter().find(|key| key.id == *key_id).ok_or(SessionError::UnknownKey)?;
        key.cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: purpose })
            .map_err(|_| SessionError::Forged)
    }
}

impl SessionKey {
    fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        purpose: &[u8],
        plain: &[u8],
    ) -> Result<String, SessionError> {
        let payload = Payload { msg: plain, aad: purpose };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SessionError::Malformed)?;
        Ok(URL_SAFE_NO_PAD.encode([&self.id[..], &nonce, &sealed].concat()))
    }
}

/// A random session id to make claims with.
pub fn new_id() -> [u8; 16] {
    rand::random()
}

/// What of a subject goes into an id: enough to tell principals apart, no name.
pub fn principal_hash(subject: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(subject.as_bytes()).into();
    let mut out = [0; 16];
    out.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
    out
}

impl SessionClaims {
    /// Whether the id has lived for as long as it may.
    pub fn has_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.issued_at_ms) > LIFETIME_MS
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let version = Version::ALL.iter().position(|version| *version == self.version)?;
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.principal);
        out.extend_from_slice(&self.issued_at_ms.to_be_bytes());
        out.extend_from_slice(&self.capabilities.bits().to_be_bytes());
        out.push(u8::try_from(version).ok()?);
        for text in [&self.server, &self.owner] {
            out.push(u8::try_from(text.len()).ok()?);
            out.extend_from_slice(text.as_bytes());
        }
        if let Some(written) = &self.written {
            out.extend_from_slice(written.as_bytes());
        }
        Some(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, bytes) = bytes.split_first_chunk::<16>()?;
        let (principal, bytes) = bytes.split_first_chunk::<16>()?;
        let (issued_at_ms, bytes) = bytes.split_first_chunk::<8>()?;
        let (capabilities, bytes) = bytes.split_first_chunk::<8>()?;
        let (version, bytes) = bytes.split_first()?;
        let (server, bytes) = split_text(bytes)?;
        let (owner, bytes) = split_text(bytes)?;
        let written = std::str::from_utf8(bytes).ok()?;
        Some(Self {
            id: *id,
            principal: *principal,
            server,
            version: *Version::ALL.get(usize::from(*version))?,
            capabilities: Capabilities::from_bits(u64::from_be_bytes(*capabilities)),
            written: (!written.is_empty()).then(|| written.into()),
            owner,
            issued_at_ms: i64::from_be_bytes(*issued_at_ms),
        })
    }
}

fn split_text(bytes: &[u8]) -> Option<(Box<str>, &[u8])> {
    let (length, bytes) = bytes.split_first()?;
    let (text, rest) = bytes.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?.into(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::declared::KEPT_MAX;

    const NOW: i64 = 1_800_000_000_000;

    fn keys(bytes: &[u8]) -> SessionKeys {
        let keys: Vec<_> = bytes.iter().map(|byte| Secret::new([*byte; 32])).collect();
        SessionKeys::new(&keys)
    }

    fn claims() -> SessionClaims {
        SessionClaims {
            id: [1; 16],
            principal: principal_hash("alice"),
            server: "dev".into(),
            version: Version::V2025_06_18,
            capabilities: Capabilities::from_bits(3),
            written: None,
            owner: "proxy-1".into(),
            issued_at_ms: NOW,
        }
    }

    #[test]
    fn an_id_lives_as_long_as_its_key_and_thirty_days() {
        let id = keys(&[1]).seal(&claims()).unwrap();
        assert!(keys(&[3, 2, 1]).open(&id, NOW + LIFETIME_MS).is_ok());
        assert_eq!(keys(&[1]).open(&id, NOW + LIFETIME_MS + 1), Err(SessionError::Expired));
        assert_eq!(keys(&[6, 5, 4, 3, 2, 1]).open(&id, NOW), Err(SessionError::UnknownKey));
        assert_eq!(keys(&[]).seal(&claims()), Err(SessionError::NoKey));
    }

    #[test]
    fn the_longest_id_is_looked_at() {
        let text = |size| "x".repeat(size);
        let claims = SessionClaims {
            server: text(255).into(),
            owner: text(255).into(),
            written: Some(text(KEPT_MAX).into()),
            ..claims()
        };
        let id = keys(&[1]).seal(&claims).unwrap();
        assert_eq!(keys(&[1]).open(&id, NOW).unwrap(), claims);
    }

    #[test]
    fn two_ids_of_the_same_claims_differ() {
        let keys = keys(&[1]);
        assert_ne!(keys.seal(&claims()).unwrap(), keys.seal(&claims()).unwrap());
    }

    #[test]
    fn what_is_sealed_to_the_same_text_differs_with_all_that_it_depends_on() {
        let seal =
            |key: u8, purpose: &[u8], plain: &[u8]| keys(&[key]).seal_same(purpose, plain).unwrap();
        let text = seal(1, b"p", b"x");
        assert_eq!(text, seal(1, b"p", b"x"));
        let nonce = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap()[..28].to_vec();
        for other in [seal(2, b"p", b"x"), seal(1, b"px", b""), seal(1, b"p", b"y")] {
            assert_ne!(nonce(&text), nonce(&other));
        }
        assert_eq!(keys(&[2, 1]).open_for(b"p", &text).unwrap(), b"x");
        assert_eq!(keys(&[1]).open_for(b"q", &text), Err(SessionError::Forged));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let keys = keys(&[1]);
        let id = keys.seal(&claims()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&id).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut forged = bytes.clone();
                forged[at] ^= 1 << bit;
                assert!(keys.open(&URL_SAFE_NO_PAD.encode(forged), NOW).is_err(), "byte {at}");
            }
        }
        for length in 0..id.len() {
            assert!(keys.open(&id[..length], NOW).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            (id, principal) in any::<([u8; 16], [u8; 16])>(),
            server in "[a-z0-9.-]{0,63}", owner in "[a-z0-9-]{0,63}",
            version in 0usize..5, bits in 0u64..(1 << 62),
            written in prop::option::of(".{1,400}"),
        ) {
            let claims = SessionClaims {
                id, principal, server: server.into(), version: Version::ALL[version],
                capabilities: Capabilities::from_bits(bits), written: written.map(Into::into),
                owner: owner.into(), issued_at_ms: NOW,
            };
            let sealed = keys(&[9]).seal(&claims).unwrap();
            prop_assert!(sealed.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
            prop_assert_eq!(keys(&[9]).open(&sealed, NOW).unwrap(), claims);
        }

        #[test]
        fn what_is_sealed_for_a_purpose_opens_for_it_alone(
            plain in prop::collection::vec(any::<u8>(), 0..200),
            (purpose, other) in any::<([u8; 8], [u8; 8])>(),
            (at, bit) in (any::<prop::sample::Index>(), 0u8..8),
        ) {
            let keys = keys(&[9]);
            let sealed = keys.seal_for(&purpose, &plain).unwrap();
            prop_assert_eq!(keys.open_for(&purpose, &sealed).unwrap(), plain);
            prop_assert_eq!(keys.open_for(&other, &sealed).is_ok(), other == purpose);
            let mut forged = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            let at = at.index(forged.len());
            forged[at] ^= 1 << bit;
            prop_assert!(keys.open_for(&purpose, &URL_SAFE_NO_PAD.encode(forged)).is_err());
            prop_assert!(keys.open_for(&purpose, &sealed[..sealed.len() - 1]).is_err());
            // A session id is sealed for a purpose of its own.
            prop_assert!(keys.open(&sealed, NOW).is_err());
        }

        #[test]
        fn arbitrary_ids_never_panic(id in ".{0,300}") {
            prop_assert!(keys(&[1]).open(&id, NOW).is_err());
        }
    }
}
