//! Proxies among each other: who may reach whom, with which certificate, and what they all
//! must know of sessions that have ended.

mod authority;

use std::{sync::Arc, time::Duration};

use proto::{
    Invalid, Permission,
    resource::{EndedSession, ProxyResource, kind},
};
use rustls::pki_types::CertificateDer;

pub(crate) use self::authority::AuthorityError;
use self::authority::{Authority, PublicKey};
use crate::{
    caller::Caller,
    clock::Clock,
    error::Error,
    fleet::{Fleet, Host},
    identity::{ProxyCaller, proxies::check_proxy_id},
    seal::Sealer,
    store::{Store, StoreError, Write, ended_sessions, join_tokens, peers, proxies},
};

/// Longest `HOST:PORT`.
const ADDRESS_MAX: usize = 300;
/// A session that ends later than this was not made by one of our proxies.
const SESSION_MAX_MS: i64 = 31 * 24 * 60 * 60 * 1000;

/// The use cases of proxies among each other. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    fleet: Fleet,
    authority: Authority,
    lifetime: Duration,
}

/// A certificate and what it needs to be used.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) issue_time_ms: i64,
    pub(crate) expire_time_ms: i64,
}

impl Peers {
    /// `lifetime`: of a certificate; it is renewed at half of it.
    pub(crate) async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        (fleet, sealer): (Fleet, &Sealer),
        lifetime: Duration,
    ) -> Result<Self, AuthorityError> {
        let authority = Authority::settle(&store, sealer, clock.now_ms()).await?;
        Ok(Self { inner: Arc::new(Inner { store, clock, fleet, authority, lifetime }) })
    }

    /// A certificate for the holder of this key; the caller has proved to be this proxy.
    pub(crate) fn certify(&self, proxy_id: &str, public_key: &[u8]) -> Result<Certified, Error> {
        check_proxy_id(proxy_id)?;
        let key = PublicKey::read(public_key)
            .ok_or_else(|| Invalid::new("public_key", "must be an uncompressed P-256 point"))?;
        let Inner { clock, authority, lifetime, .. } = &*self.inner;
        let issue_time_ms = clock.now_ms();
        let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expire_time_ms = issue_time_ms.saturating_add(lifetime_ms);
        let certificate = authority
            .sign(proxy_id, &key, (issue_time_ms, expire_time_ms))
            .map_err(|error| Error::Internal(error.into()))?;
        let authority = authority.certificate().clone();
        tracing::info!(target: "audit", who = proxy_id, verb = "certify", expire_time_ms);
        Ok(Certified { certificate, authority, issue_time_ms, expire_time_ms })
    }

    /// Whether the caller still is who it was when its request began: streams live long.
    pub(crate) async fn is_trusted(&self, caller: &ProxyCaller) -> Result<bool, StoreError> {
        match caller {
            ProxyCaller::Local => Ok(true),
            ProxyCaller::Enrolled { proxy_id } => {
                let mut read = self.inner.store.begin_read().await?;
                join_tokens::is_enrolled(read.connection(), proxy_id).await
            }
        }
    }

    /// Notes where a proxy is reached by others, and whether it runs children; without an
    /// address it takes no part. Takes a revision only if that is news. A proxy that was revoked
    /// meanwhile is refused.
    pub(crate) async fn announce(
        &self,
        caller: &ProxyCaller,
        proxy_id: &str,
        (peer_address, host): (&str, Host),
    ) -> Result<(), Error> {
        let Inner { store, clock, .. } = &*self.inner;
        let wanted = is_address(peer_address).then(|| ProxyResource {
            id: proxy_id.to_owned(),
            peer_address: peer_address.to_owned(),
            stdio_host: host == Host::Stdio,
        });
        if wanted.is_none() && !peer_address.is_empty() {
            tracing::warn!(proxy_id, "its address for other proxies is no HOST:PORT: left out");
        }
        let mut read = store.begin_read().await?;
        if peers::find(read.connection(), proxy_id).await? == wanted {
            return Ok(());
        }
        drop(read);
        let mut write = store.begin_write().await?;
        let is_revoked = match caller {
            ProxyCaller::Local => false,
            ProxyCaller::Enrolled { proxy_id } => {
                !join_tokens::is_enrolled(write.connection(), proxy_id).await?
            }
        };
        if is_revoked {
            return Err(Error::NotFound { kind: "proxy", name: proxy_id.to_owned() });
        }
        match &wanted {
            Some(proxy) => peers::put(write.connection(), proxy, clock.now_ms()).await?,
            None => drop(peers::remove(write.connection(), proxy_id).await?),
        }
        write.changed(kind::PROXY, "", proxy_id).await?;
        write.commit().await?;
        Ok(())
    }

    /// Ends the trust in a proxy: its credential, its place among the others, its streams.
    pub(crate) async fn revoke(&self, caller: &Caller, proxy_id: &str) -> Result<u64, Error> {
        caller.require(Permission::ProxiesEnrol)?;
        let mut write = self.inner.store.begin_write().await?;
        let was_enrolled = join_tokens::remove_credential(write.connection(), proxy_id).await?;
        let was_peer = peers::remove(write.connection(), proxy_id).await?;
        let was_seen = proxies::remove(write.connection(), proxy_id).await?;
        if !was_enrolled && !was_peer && !was_seen {
            return Err(Error::NotFound { kind: "proxy", name: proxy_id.to_owned() });
        }
        if was_peer {
            write.changed(kind::PROXY, "", proxy_id).await?;
        }
        let revision = write.revision().await?;
        write.commit().await?;
        self.inner.fleet.expel(proxy_id);
        let object = format!("proxy/{proxy_id}");
        tracing::info!(target: "audit", who = caller.subject(),
            authentication = caller.authentication, verb = "revoke", object);
        Ok(revision)
    }

    /// Notes sessions that their clients have deleted, so that every proxy refuses them.
    pub(crate) async fn end_sessions(&self, ended: &[EndedSession]) -> Result<(), Error> {
        let now = self.inner.clock.now_ms();
        let lives = |it: &&EndedSession| {
            it.expire_time_ms > now && it.expire_time_ms <= now + SESSION_MAX_MS
        };
        let mut ended = ended.iter().filter(lives).peekable();
        if ended.peek().is_none() {
            return Ok(());
        }
        let mut write = self.inner.store.begin_write().await?;
        let mut batch = ended_sessions::Batch::open(write.connection()).await?;
        let mut names = Vec::new();
        for session in ended {
            names.extend(batch.insert(write.connection(), *session).await?);
        }
        names.dedup();
        note(&mut write, kind::ENDED_SESSIONS, &names).await?;
        write.commit().await?;
        Ok(())
    }

    /// Forgets sessions whose ids have expired. Called by the clock; writes only if something is due.
    pub(crate) async fn upkeep(&self) -> Result<(), Error> {
        let Inner { store, clock, .. } = &*self.inner;
        let now = clock.now_ms();
        let mut read = store.begin_read().await?;
        if ended_sessions::expired(read.connection(), now).await?.is_empty() {
            return Ok(());
        }
        drop(read);
        let mut write = store.begin_write().await?;
        let names = ended_sessions::expired(write.connection(), now).await?;
        for name in &names {
            ended_sessions::delete(write.connection(), name).await?;
        }
        note(&mut write, kind::ENDED_SESSIONS, &names).await?;
        write.commit().await?;
        Ok(())
    }
}

async fn note(write: &mut Write, kind: &'static str, names: &[String]) -> Result<(), Error> {
    if !names.is_empty() {
        write.changed_all(kind, "", names).await?;
    }
    Ok(())
}

/// Whether others could connect there.
fn is_address(text: &str) -> bool {
    let authority = text.parse::<http::uri::Authority>().ok();
    text.len() <= ADDRESS_MAX
        && authority.is_some_and(|it| it.port_u16().is_some() && !text.contains('@'))
}

#[cfg(test)]
mod tests;
