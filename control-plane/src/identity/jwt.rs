//! Signed tokens: ContextForge's HS256 ones and our own short-lived EdDSA ones.

use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto::{Principal, Role, Secret};
use serde::{Deserialize, Serialize};

use crate::caller::Caller;

/// How far the clocks of signer and reader may be apart, in seconds.
const LEEWAY_SECONDS: i64 = 60;
/// Longest signed token that is looked at, in bytes.
const LENGTH_MAX: usize = 8 * 1024;
/// Who issues our own tokens.
const ISSUER: &str = "lockgate";

/// Signs and reads tokens. One algorithm per key: the header chooses the key,
/// and a key knows only its own algorithm.
pub(crate) struct Jwt {
    contextforge: DecodingKey,
    own_public: DecodingKey,
    own_private: EncodingKey,
    public_key: [u8; 32],
    admin_user: String,
}

/// Why a signed token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// Claims of the seed era: `{"username":"admin","exp":…}`; everything may be missing.
#[derive(Deserialize)]
struct ContextForgeClaims {
    username: Option<String>,
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct OwnClaims {
    iss: String,
    sub: String,
    role: Role,
    exp: i64,
    jti: String,
}

impl Jwt {
    /// The error is of the key encoding and cannot depend on the input.
    pub(crate) fn new(
        jwt_secret: &Secret<String>,
        signing: &Secret<[u8; 32]>,
        admin_user: &str,
    ) -> Result<Self, ed25519_dalek::pkcs8::Error> {
        let signing = SigningKey::from_bytes(signing.expose());
        let public_key = signing.verifying_key().to_bytes();
        Ok(Self {
            contextforge: DecodingKey::from_secret(jwt_secret.expose().as_bytes()),
            own_public: DecodingKey::from_ed_der(&public_key),
            own_private: EncodingKey::from_ed_der(signing.to_pkcs8_der()?.as_bytes()),
            public_key,
            admin_user: admin_user.to_owned(),
        })
    }

    /// What proxies check our own tokens with.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// A token that stands for `principal` until `expire_ms`.
    pub(crate) fn issue(
        &self,
        principal: &Principal,
        expire_ms: i64,
    ) -> Result<Secret<String>, jsonwebtoken::errors::Error> {
        let claims = OwnClaims {
            iss: ISSUER.to_owned(),
            sub: principal.subject.as_ref().to_owned(),
            role: principal.role,
            exp: expire_ms / 1000,
            jti: uuid::Uuid::now_v7().to_string(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.own_private)
            .map(Secret::new)
    }

    /// Who presents this token.
    pub(crate) fn read(&self, token: &str, now_ms: i64) -> Result<Caller, Refused> {
        if token.len() > LENGTH_MAX {
            return Err(Refused("the token is too long"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Refused("this is neither an API token nor a signed token"))?;
        let now = now_ms / 1000;
        match header.alg {
            Algorithm::HS256 => self.read_contextforge(token, now),
            Algorithm::EdDSA => self.read_own(token, now),
            _ => Err(Refused("the token is signed with an algorithm that no key here has")),
        }
    }

    fn read_contextforge(&self, token: &str, now: i64) -> Result<Caller, Refused> {
        let claims: ContextForgeClaims = verify(token, &self.contextforge, Algorithm::HS256)?;
        let ContextForgeClaims { username, sub, exp, nbf } = claims;
        #[expect(clippy::cast_precision_loss, reason = "seconds fit into 53 bits")]
        let (earliest, latest) = ((now - LEEWAY_SECONDS) as f64, (now + LEEWAY_SECONDS) as f64);
        if exp.is_some_and(|exp| exp < earliest) {
            return Err(Refused("the token has expired"));
        }
        if nbf.is_some_and(|nbf| nbf > latest) {
            return Err(Refused("the token is not valid yet"));
        }
        let subject = username.or(sub).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(Refused("the token names nobody"))?;
        let role = if subject == self.admin_user { Role::Admin } else { Role::Caller };
        Ok(Caller::new(Principal::new(&subject, role), "jwt"))
    }

    fn read_own(&self, token: &str, now: i64) -> Result<Caller, Refused> {
        let claims: OwnClaims = verify(token, &self.own_public, Algorithm::EdDSA)?;
        let OwnClaims { iss, sub, role, exp, jti: _ } = claims;
        if iss != ISSUER || sub.is_empty() {
            return Err(Refused("the token was not issued here"));
        }
        if exp < now - LEEWAY_SECONDS {
            return Err(Refused("the token has expired"));
        }
        Ok(Caller::new(Principal::new(&sub, role), Caller::ACCESS_TOKEN))
    }
}

/// Checks the signature only: the callers judge times with their own clock, and
/// any `aud` is taken.
fn verify<C: serde::de::DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<C, Refused> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, key, &validation)
        .map(|data| data.claims)
        .map_err(|_| Refused("the token's signature or content is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const NOW: i64 = NOW_MS / 1000;

    fn jwt() -> Jwt {
        Jwt::new(&"my-test-key".into(), &Secret::new([9; 32]), "admin").unwrap()
    }

    fn hs256(secret: &str, claims: &serde_json::Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    }

    #[track_caller]
    fn reads(claims: serde_json::Value, expected: Result<(&str, Role), &str>) {
        let read = jwt().read(&hs256("my-test-key", &claims), NOW_MS);
        let read = read.map(|caller| (caller.subject().to_owned(), caller.principal.role));
        let expected = expected.map(|(subject, role)| (subject.to_owned(), role));
        match (read, expected) {
            (Err(Refused(text)), Err(part)) => assert!(text.contains(part), "{text}"),
            (read, expected) => assert_eq!(read.ok(), expected.ok(), "{claims}"),
        }
    }

    #[test]
    fn contextforges_seed_tokens_are_read() {
        use serde_json::json;
        reads(json!({"username": "admin", "exp": NOW + 600}), Ok(("admin", Role::Admin)));
        reads(json!({"username": "admin"}), Ok(("admin", Role::Admin)));
        reads(json!({"sub": "admin", "aud": "x", "iss": "y"}), Ok(("admin", Role::Admin)));
        reads(json!({"username": "eve", "exp": NOW - 30}), Ok(("eve", Role::Caller)));
        reads(json!({"username": "admin", "exp": NOW - 61}), Err("expired"));
        reads(json!({"username": "admin", "nbf": NOW + 61}), Err("not valid yet"));
        reads(json!({"exp": NOW + 600}), Err("names nobody"));
        reads(json!({"username": "", "exp": NOW + 600}), Err("names nobody"));
    }

    #[test]
    fn our_own_tokens_are_read_until_they_expire() {
        let jwt = jwt();
        let eve = Principal::new("eve", Role::Caller);
        let token = jwt.issue(&eve, NOW_MS + 300_000).unwrap();
        let caller = jwt.read(token.expose(), NOW_MS).unwrap();
        assert_eq!(caller.principal, eve);
        assert!(jwt.read(token.expose(), NOW_MS + 361_000).is_err());
    }

    #[test]
    fn a_key_reads_only_its_own_algorithm() {
        let jwt = jwt();
        let claims = serde_json::json!({"iss": "lockgate", "sub": "eve", "role": "admin",
            "exp": NOW + 60, "jti": "1"});
        // The public key as an HMAC secret, and no signature at all.
        let key = EncodingKey::from_secret(&jwt.public_key());
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert!(jwt.read(&forged, NOW_MS).is_err());
        let none = "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6ImFkbWluIn0.";
        assert!(jwt.read(none, NOW_MS).is_err());
        assert!(jwt.read(&hs256("other", &claims), NOW_MS).is_err());
        let hs384 = Header::new(Algorithm::HS384);
        let key = EncodingKey::from_secret(b"my-test-key");
        assert!(jwt.read(&jsonwebtoken::encode(&hs384, &claims, &key).unwrap(), NOW_MS).is_err());
        assert!(jwt.read(&"x".repeat(9000), NOW_MS).is_err());
    }
}
