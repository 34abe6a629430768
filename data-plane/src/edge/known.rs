//! What a connection remembers of its client, so that the next request need not be opened again.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak},
};

use http::HeaderValue;
use parking_lot::Mutex;
use proto::Principal;

use crate::{
    auth::Trust, connection::Door, session::SessionClaims, sessions::Live, snapshot::table::Table,
};

/// What a connection does once HTTP has left it.
pub(crate) type Upgraded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One client connection.
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) door: Door,
    /// Only this connection's requests meet here.
    session: Mutex<Option<Remembered>>,
    upgraded: Mutex<Option<Upgraded>>,
}

/// A session, and the configuration under which it was found to be good.
struct Remembered {
    known: Arc<Known>,
    table: Weak<Table>,
    /// Which later configurations share that differ in nothing that is decided here: neither in
    /// keys and tokens nor in the ids of servers.
    trust: Weak<Trust>,
}

/// A session id that was opened for one principal.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) header: HeaderValue,
    pub(crate) principal: Arc<Principal>,
    pub(crate) claims: SessionClaims,
    pub(crate) live: Arc<Live>,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, door: Door) -> Self {
        Self { peer, door, session: Mutex::default(), upgraded: Mutex::default() }
    }

    /// The session of the last request, if this one has the same id, principal and configuration
    /// and the id has not expired. Other sessions that have ended since make no difference.
    pub(crate) fn known(
        &self,
        header: &HeaderValue,
        table: &Arc<Table>,
        principal: &Arc<Principal>,
        now_ms: i64,
    ) -> Option<Arc<Known>> {
        let mut session = self.session.lock();
        let Remembered { known, table: seen, trust } = session.as_mut()?;
        let is_same = known.header == *header && known.principal == *principal;
        if !is_same || known.claims.has_expired(now_ms) {
            return None;
        }
        if !std::ptr::eq(seen.as_ptr(), Arc::as_ptr(table)) {
            let is_as_good = std::ptr::eq(trust.as_ptr(), Arc::as_ptr(table.trust()));
            if !is_as_good || table.has_ended(&known.claims.id) {
                return None;
            }
            *seen = Arc::downgrade(table);
        }
        Some(Arc::clone(known))
    }

    /// Says how the connection goes on after this request.
    pub(crate) fn upgrade(&self, upgraded: Upgraded) {
        *self.upgraded.lock() = Some(upgraded);
    }

    /// What the connection has to do after HTTP.
    pub(crate) fn upgraded(&self) -> Option<Upgraded> {
        self.upgraded.lock().take()
    }

    /// The session of a request that was good under this configuration.
    pub(crate) fn remember(&self, known: &Arc<Known>, table: &Arc<Table>) {
        let (known, trust) = (Arc::clone(known), Arc::downgrade(table.trust()));
        *self.session.lock() = Some(Remembered { known, table: Arc::downgrade(table), trust });
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        Position, Role,
        resource::{EndedSession, EndedSessionsResource, Resource},
    };

    use super::*;
    use crate::{
        mcp::{Capabilities, Version},
        session::LIFETIME_MS,
        sessions::Sessions,
        snapshot::table::tests::{compile, sample},
    };

    #[test]
    fn a_session_stays_known_when_another_ends() {
        let id = [1; 16];
        let principal = Arc::new(Principal::new("alice", Role::Caller));
        let header = HeaderValue::from_static("sealed");
        let known = Arc::new(Known {
            header: header.clone(),
            principal: Arc::clone(&principal),
            claims: SessionClaims {
                id,
                principal: crate::session::principal_hash("alice"),
                server: "".into(),
                version: Version::NEWEST_HANDSHAKE,
                capabilities: Capabilities::NONE,
                written: None,
                owner: "p".into(),
                issued_at_ms: 0,
            },
            live: Sessions::default().enter(id, 0).unwrap(),
        });
        let client = Client::new(([127, 0, 0, 1], 1).into(), Door::Public);
        let table = compile(&sample()).unwrap();
        let ended = |base: &Table, id| {
            let sessions = vec![EndedSession { id, expire_time_ms: 1 }];
            let ended = EndedSessionsResource { name: "0".to_owned(), sessions };
            let ended = [Resource::EndedSessions(ended)];
            Arc::new(base.with_ended(ended.iter(), Position::default()))
        };
        let (other, own) = (ended(&table, [2; 16]), ended(&table, id));
        let table = Arc::new(table);
        let known_at = |table: &Arc<Table>, now_ms: i64| {
            client.known(&header, table, &principal, now_ms).is_some()
        };
        let is_known = |table: &Arc<Table>| known_at(table, 0);
        assert!(!is_known(&table));
        client.remember(&known, &table);
        assert!(is_known(&table) && is_known(&other));
        drop(table);
        assert!(is_known(&other) && is_known(&ended(&other, [3; 16])));
        assert!(!is_known(&own), "it has ended itself");
        assert!(!is_known(&Arc::new(compile(&sample()).unwrap())), "anything may be different");
        assert!(known_at(&other, LIFETIME_MS) && !known_at(&other, LIFETIME_MS + 1), "too old");
        assert!(client.known(&HeaderValue::from_static("x"), &other, &principal, 0).is_none());
    }
}
