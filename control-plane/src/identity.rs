//! Who calls: credentials become a [`Caller`]; tokens, keys and enrolments are made here.

pub(crate) mod jwt;
pub(crate) mod keys;
pub(crate) mod password;
pub(crate) mod proxies;
pub(crate) mod tokens;

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::AUTHORIZATION};
use proto::{Principal, token};

use crate::{
    caller::Caller,
    clock::Clock,
    error::Error,
    identity::{jwt::Jwt, password::Password},
    seal::Sealer,
    store::{self, Store},
};

pub use proxies::ProxyCaller;

/// The identity use cases. Cloning shares them.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    sealer: Sealer,
    jwt: Jwt,
    password: Password,
    /// SHA-256 of the control plane's certificate.
    fingerprint: [u8; 32],
}

/// What the use cases work with.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sealer: Sealer,
    pub(crate) jwt: Jwt,
    pub(crate) password: Password,
    pub(crate) fingerprint: [u8; 32],
}

/// Clients pad Basic credentials or do not.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Identity {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { store, clock, sealer, jwt, password, fingerprint } = parts;
        Self { inner: Arc::new(Inner { store, clock, sealer, jwt, password, fingerprint }) }
    }

    /// The administrator's name.
    pub fn admin_user(&self) -> &str {
        self.inner.password.user()
    }

    /// What the keys of proxies are sealed with.
    #[cfg(test)]
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// Who sends these headers: `Authorization: Bearer` with an API token or a
    /// signed token, or `Basic` with the administrator's password.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(Error::Unauthenticated("present one `Authorization` header"));
        };
        let malformed = Error::Unauthenticated("the `Authorization` header is malformed");
        let Some((scheme, credential)) = value.to_str().ok().and_then(|it| it.split_once(' '))
        else {
            return Err(malformed);
        };
        let credential = credential.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer(credential).await;
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return self.basic(credential);
        }
        Err(Error::Unauthenticated("use `Bearer` or `Basic`"))
    }

    async fn bearer(&self, secret: &str) -> Result<Caller, Error> {
        let now = self.inner.clock.now_ms();
        if !secret.starts_with(token::PREFIX) {
            let read = self.inner.jwt.read(secret, now);
            return read.map_err(|jwt::Refused(why)| Error::Unauthenticated(why));
        }
        let mut read = self.inner.store.begin_read().await?;
        let digest = token::digest(secret);
        let found = store::tokens::by_digest(read.connection(), &digest).await?;
        match found {
            Some(token) if token.expire_time_ms.is_none_or(|end| end > now) => {
                Ok(Caller::new(Principal::new(&token.subject, token.role), "token"))
            }
            Some(_) => Err(Error::Unauthenticated("the token has expired")),
            None => Err(Error::Unauthenticated("the token is unknown or revoked")),
        }
    }

    fn basic(&self, credential: &str) -> Result<Caller, Error> {
        let wrong = Error::Unauthenticated("user or password is wrong");
        let Some(pair) = BASIC.decode(credential).ok().and_then(|it| String::from_utf8(it).ok())
        else {
            return Err(wrong);
        };
        match pair.split_once(':') {
            Some((user, password)) if self.inner.password.is_right(user, password) => {
                Ok(Caller::new(Principal::new(user, proto::Role::Admin), "basic"))
            }
            Some(_) | None => Err(wrong),
        }
    }
}
