//! Signed tokens: ContextForge's HS256 ones and our own EdDSA ones. One algorithm per key.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::{Principal, Role};
use serde::{Deserialize, de::DeserializeOwned};

use super::{AuthError, Verdict};

/// Who issues our own tokens.
const ISSUER: &str = "lockgate";

/// Keys by the one algorithm that each is for.
#[derive(Default)]
pub struct JwtKeys {
    hs256: Vec<DecodingKey>,
    eddsa: Vec<DecodingKey>,
}

impl std::fmt::Debug for JwtKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "JwtKeys({} HS256, {} EdDSA)", self.hs256.len(), self.eddsa.len())
    }
}

/// The seed era's `{"username": "admin", "exp": …}`; everything but a name may be missing,
/// nothing may have the wrong type.
#[derive(Deserialize)]
struct ContextForgeClaims {
    username: Option<String>,
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// What the control plane signs; all of it is required.
#[derive(Deserialize)]
struct OwnClaims {
    iss: String,
    sub: String,
    role: Role,
    exp: i64,
}

impl JwtKeys {
    pub(super) fn trust_hs256(&mut self, secret: &[u8]) {
        self.hs256.push(DecodingKey::from_secret(secret));
    }

    pub(super) fn trust_eddsa(&mut self, public: &[u8; 32]) {
        self.eddsa.push(DecodingKey::from_ed_der(public));
    }

    /// Whose token it is, and when; the caller judges the time. `admin` is the
    /// administrator's name, who keeps the role in ContextForge tokens.
    pub(super) fn verify(&self, token: &str, admin: Option<&str>) -> Result<Verdict, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::UnknownToken)?;
        match header.alg {
            Algorithm::HS256 => contextforge(decode(token, &self.hs256, Algorithm::HS256)?, admin),
            Algorithm::EdDSA => own(decode(token, &self.eddsa, Algorithm::EdDSA)?),
            _ => Err(AuthError::BadSignature),
        }
    }
}

fn contextforge(claims: ContextForgeClaims, admin: Option<&str>) -> Result<Verdict, AuthError> {
    let ContextForgeClaims { username, sub, exp, nbf } = claims;
    let subject = username.or(sub).filter(|it| !it.is_empty()).ok_or(AuthError::BadClaims)?;
    let role = if Some(&*subject) == admin { Role::Admin } else { Role::Caller };
    Ok(Verdict {
        principal: Arc::new(Principal::new(&subject, role)),
        not_before_ms: nbf.map(milliseconds),
        expire_ms: exp.map(milliseconds),
    })
}

fn own(claims: OwnClaims) -> Result<Verdict, AuthError> {
    let OwnClaims { iss, sub, role, exp } = claims;
    if iss != ISSUER || sub.is_empty() {
        return Err(AuthError::BadClaims);
    }
    Ok(Verdict {
        principal: Arc::new(Principal::new(&sub, role)),
        not_before_ms: None,
        expire_ms: Some(exp.saturating_mul(1000)),
    })
}

/// Seconds with a fraction; what is beyond all time saturates.
#[expect(clippy::cast_possible_truncation, reason = "saturates, which is meant")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

/// Checks the signature with each key of the algorithm. Times are judged later and
/// `aud` may be anything (design.md §7), so both checks are off explicitly.
fn decode<C: DeserializeOwned>(
    token: &str,
    keys: &[DecodingKey],
    algorithm: Algorithm,
) -> Result<C, AuthError> {
    use jsonwebtoken::errors::ErrorKind;
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    for key in keys {
        match jsonwebtoken::decode(token, key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => {
                return Err(AuthError::BadClaims);
            }
            Err(_) => (),
        }
    }
    Err(AuthError::BadSignature)
}
