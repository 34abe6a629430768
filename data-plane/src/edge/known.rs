//! What a connection remembers of its client, so that the next request need not be opened again.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak},
};

use http::HeaderValue;
use parking_lot::Mutex;
use proto::Principal;

use crate::{connection::Door, session::SessionClaims, sessions::Live, snapshot::table::Table};

/// What a connection does once HTTP has left it.
pub(crate) type Upgraded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One client connection.
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) door: Door,
    /// Only this connection's requests meet here.
    session: Mutex<Option<Arc<Known>>>,
    upgraded: Mutex<Option<Upgraded>>,
}

/// A session id that was opened under one configuration for one principal.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) header: HeaderValue,
    pub(crate) table: Weak<Table>,
    pub(crate) principal: Arc<Principal>,
    pub(crate) claims: SessionClaims,
    pub(crate) live: Arc<Live>,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, door: Door) -> Self {
        Self { peer, door, session: Mutex::default(), upgraded: Mutex::default() }
    }

    /// The session of the last request, if this one has the same id, principal and configuration.
    pub(crate) fn known(
        &self,
        header: &HeaderValue,
        table: &Arc<Table>,
        principal: &Arc<Principal>,
    ) -> Option<Arc<Known>> {
        let session = self.session.lock();
        let known = session.as_ref()?;
        let is_same = known.header == *header
            && std::ptr::eq(known.table.as_ptr(), Arc::as_ptr(table))
            && known.principal == *principal;
        is_same.then(|| Arc::clone(known))
    }

    /// Says how the connection goes on after this request.
    pub(crate) fn upgrade(&self, upgraded: Upgraded) {
        *self.upgraded.lock() = Some(upgraded);
    }

    /// What the connection has to do after HTTP.
    pub(crate) fn upgraded(&self) -> Option<Upgraded> {
        self.upgraded.lock().take()
    }

    pub(crate) fn remember(&self, known: &Arc<Known>) {
        *self.session.lock() = Some(Arc::clone(known));
    }
}
