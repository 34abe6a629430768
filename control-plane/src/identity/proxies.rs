//! How proxies join, and how they prove afterwards who they are.

use http::{HeaderMap, header::AUTHORIZATION};
use proto::{
    Invalid, Permission, Secret,
    token::{self, JoinToken, PROXY_PREFIX},
};

use crate::{
    caller::Caller,
    error::Error,
    identity::Identity,
    keys,
    store::join_tokens::{self, JoinTokenRow},
};

const LIFETIME_DEFAULT_SECONDS: u32 = 600;
const LIFETIME_MAX_SECONDS: u32 = 24 * 60 * 60;

/// A proxy that has proved itself; in the extensions of Sync and Reports requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyCaller {
    /// The proxy inside this process (`up`): it is whoever it says.
    Local,
    /// The holder of the credential of this `proxy_id`.
    Enrolled { proxy_id: String },
}

impl ProxyCaller {
    /// Whether this caller may speak for `proxy_id`.
    pub fn is(&self, proxy_id: &str) -> bool {
        match self {
            Self::Local => true,
            Self::Enrolled { proxy_id: own } => own == proxy_id,
        }
    }
}

impl Identity {
    /// A secret that lets one new proxy join, and its end in Unix milliseconds.
    pub async fn create_join_token(
        &self,
        caller: &Caller,
        lifetime_seconds: u32,
    ) -> Result<(Secret<String>, i64), Error> {
        caller.require(Permission::ProxiesEnrol)?;
        if lifetime_seconds > LIFETIME_MAX_SECONDS {
            let problem = format!("must be at most {LIFETIME_MAX_SECONDS}");
            return Err(Invalid::new("lifetime_seconds", problem).into());
        }
        let seconds =
            if lifetime_seconds == 0 { LIFETIME_DEFAULT_SECONDS } else { lifetime_seconds };
        let now = self.inner.clock.now_ms();
        let expire_time_ms = now.saturating_add(i64::from(seconds) * 1000);
        let secret = keys::random_text();
        let text = JoinToken { secret, fingerprint: self.inner.fingerprint }.to_text();
        let row = JoinTokenRow {
            id: uuid::Uuid::now_v7().to_string(),
            digest: token::digest(text.expose()),
            subject: caller.subject().to_owned(),
            create_time_ms: now,
            expire_time_ms,
        };
        let mut write = self.inner.store.begin_write().await?;
        join_tokens::insert(write.connection(), &row).await?;
        write.commit().await?;
        let object = format!("join-token/{}", row.id);
        tracing::info!(target: "audit", who = caller.subject(),
            authentication = caller.authentication, verb = "create", object);
        Ok((text, expire_time_ms))
    }

    /// Spends a join token and gives the proxy its credential.
    pub async fn enroll(
        &self,
        join_token: &str,
        proxy_id: &str,
        advertise_address: &str,
    ) -> Result<Secret<String>, Error> {
        check_proxy_id(proxy_id)?;
        let now = self.inner.clock.now_ms();
        let credential: Secret<String> =
            format!("{PROXY_PREFIX}{}", keys::random_text().expose()).into();
        let mut write = self.inner.store.begin_write().await?;
        let digest = token::digest(join_token.trim());
        if !join_tokens::spend(write.connection(), &digest, proxy_id, now).await? {
            return Err(Error::Unauthenticated(
                "the join token is unknown, spent or expired: make a new one",
            ));
        }
        let digest = token::digest(credential.expose());
        join_tokens::put_credential(write.connection(), proxy_id, &digest, now).await?;
        write.commit().await?;
        let object = format!("proxy/{proxy_id}");
        tracing::info!(target: "audit", who = proxy_id, authentication = "join-token",
            verb = "enroll", object, advertise_address);
        Ok(credential)
    }

    /// Which proxy sends these headers (`Authorization: Bearer lgp_…`).
    pub async fn authenticate_proxy(&self, headers: &HeaderMap) -> Result<ProxyCaller, Error> {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let credential = value.and_then(|value| value.strip_prefix("Bearer "));
        let credential = credential.filter(|secret| secret.starts_with(PROXY_PREFIX));
        let credential = credential
            .ok_or(Error::Unauthenticated("present the proxy's credential as a bearer token"))?;
        let mut read = self.inner.store.begin_read().await?;
        let digest = token::digest(credential);
        let found = join_tokens::proxy_of(read.connection(), &digest).await?;
        found
            .map(|proxy_id| ProxyCaller::Enrolled { proxy_id })
            .ok_or(Error::Unauthenticated("the proxy's credential is not valid: join again"))
    }
}

/// Ids are chosen by proxies and stand in logs and tables.
pub(crate) fn check_proxy_id(id: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
        return Err(Invalid::new("proxy_id", "must be 1-64 of A-Z, a-z, 0-9, `_`, `-`, `.`"));
    }
    Ok(())
}
