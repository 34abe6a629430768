//! What proxies are told so that callers get in, and calls out: tokens, keys, credentials.

use std::collections::BTreeMap;

use crate::{Role, Secret, invalid::Invalid, wire};

#[derive(Clone, Debug, PartialEq)]
pub struct TokenResource {
    pub id: String,
    pub digest: [u8; 32],
    pub subject: String,
    pub role: Role,
    pub expire_time_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyResource {
    pub id: String,
    pub key: Key,
    pub create_time_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// Seals session ids.
    Session(Secret<[u8; 32]>),
    /// The configured secret of ContextForge tokens.
    JwtHs256(Secret<Vec<u8>>),
    /// Public key of our own tokens.
    JwtEdDsa([u8; 32]),
    /// argon2id hash of the administrator's password, PHC text.
    Basic { user: String, hash: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CredentialResource {
    pub id: String,
    pub headers: BTreeMap<String, Secret<String>>,
}

impl TryFrom<wire::TokenResource> for TokenResource {
    type Error = Invalid;

    fn try_from(token: wire::TokenResource) -> Result<Self, Invalid> {
        let wire::TokenResource { id, digest, subject, admin, expire_time_ms } = token;
        let digest = digest.try_into().map_err(|_| Invalid::new("digest", "must have 32 bytes"))?;
        Ok(Self {
            id,
            digest,
            subject,
            role: if admin { Role::Admin } else { Role::Caller },
            expire_time_ms: Some(expire_time_ms).filter(|time| *time != 0),
        })
    }
}

impl From<TokenResource> for wire::TokenResource {
    fn from(token: TokenResource) -> Self {
        let TokenResource { id, digest, subject, role, expire_time_ms } = token;
        Self {
            id,
            digest: digest.to_vec(),
            subject,
            admin: role == Role::Admin,
            expire_time_ms: expire_time_ms.unwrap_or(0),
        }
    }
}

impl TryFrom<wire::KeyResource> for KeyResource {
    type Error = Invalid;

    fn try_from(key: wire::KeyResource) -> Result<Self, Invalid> {
        let wire::KeyResource { id, r#use, material, create_time_ms, subject } = key;
        let bytes = |material: Vec<u8>| -> Result<[u8; 32], Invalid> {
            material.try_into().map_err(|_| Invalid::new("material", "must have 32 bytes"))
        };
        let key = match wire::KeyUse::try_from(r#use).unwrap_or_default() {
            wire::KeyUse::Unspecified => return Err(Invalid::new("use", "is unknown")),
            wire::KeyUse::Session => Key::Session(Secret::new(bytes(material)?)),
            wire::KeyUse::JwtHs256 => Key::JwtHs256(Secret::new(material)),
            wire::KeyUse::JwtEddsa => Key::JwtEdDsa(bytes(material)?),
            wire::KeyUse::Basic => Key::Basic {
                user: subject,
                hash: String::from_utf8(material)
                    .map_err(|_| Invalid::new("material", "is no UTF-8 text"))?,
            },
        };
        Ok(Self { id, key, create_time_ms })
    }
}

impl From<KeyResource> for wire::KeyResource {
    fn from(key: KeyResource) -> Self {
        let KeyResource { id, key, create_time_ms } = key;
        let (r#use, material, subject) = match key {
            Key::Session(secret) => {
                (wire::KeyUse::Session, secret.expose().to_vec(), String::new())
            }
            Key::JwtHs256(secret) => {
                (wire::KeyUse::JwtHs256, secret.expose().clone(), String::new())
            }
            Key::JwtEdDsa(public) => (wire::KeyUse::JwtEddsa, public.to_vec(), String::new()),
            Key::Basic { user, hash } => (wire::KeyUse::Basic, hash.into_bytes(), user),
        };
        Self { id, r#use: r#use.into(), material, create_time_ms, subject }
    }
}

impl From<wire::CredentialResource> for CredentialResource {
    fn from(credential: wire::CredentialResource) -> Self {
        let wire::CredentialResource { id, headers } = credential;
        let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        Self { id, headers }
    }
}

impl From<CredentialResource> for wire::CredentialResource {
    fn from(credential: CredentialResource) -> Self {
        let CredentialResource { id, headers } = credential;
        let headers =
            headers.into_iter().map(|(name, value)| (name, value.expose().clone())).collect();
        Self { id, headers }
    }
}
