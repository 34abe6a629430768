//! The other proxies of this control plane: who they are, and the ways to them.

mod answer;
mod certificate;
pub(crate) mod door;
pub(crate) mod herald;
mod lane;
pub(crate) mod outbox;
pub(crate) mod renewal;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dashmap::DashMap;
use http::Request;
use http_body_util::Full;
use proto::{proxy::peer_name, resource::ProxyResource};
use rustls::{
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::{
    answer::{relayed, until_closing},
    lane::Sent,
};
use self::{
    certificate::{Certificate, CertificateError, Tls},
    lane::Lane,
};
use crate::snapshot::table::Table;

/// This proxy among the others.
#[derive(Default)]
pub(crate) struct Peers {
    /// None until the control plane has signed a certificate.
    tls: ArcSwapOption<Tls>,
    /// By the id of the proxy.
    lanes: DashMap<String, Arc<Lane>>,
}

impl Peers {
    /// Proves this proxy with a certificate from now on.
    fn use_certificate(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        self.tls.store(Some(Arc::new(certificate.tls()?)));
        Ok(())
    }

    /// Takes connections of other proxies; none while there is no certificate.
    fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.load().as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.server)))
    }

    /// Sends a request to another proxy.
    pub(crate) async fn send(&self, proxy: &ProxyResource, request: Request<Full<Bytes>>) -> Sent {
        let Some(tls) = self.tls.load_full() else { return Sent::Unsent };
        let Some(lane) = self.lane(proxy) else { return Sent::Unsent };
        lane.send(&tls.client, request).await
    }

    /// Whether another proxy can be reached.
    pub(crate) async fn is_there(&self, proxy: &ProxyResource) -> bool {
        let Some(tls) = self.tls.load_full() else { return false };
        match self.lane(proxy) {
            Some(lane) => lane.is_open(&tls.client).await,
            None => false,
        }
    }

    fn lane(&self, proxy: &ProxyResource) -> Option<Arc<Lane>> {
        let known = self.lanes.get(&proxy.id).map(|lane| Arc::clone(&lane));
        if let Some(lane) = known.filter(|lane| lane.address() == proxy.peer_address) {
            return Some(lane);
        }
        let name = ServerName::try_from(peer_name(&proxy.id)).ok()?;
        let lane = Arc::new(Lane::new(proxy.peer_address.clone(), name));
        self.lanes.insert(proxy.id.clone(), Arc::clone(&lane));
        Some(lane)
    }

    /// Forgets the ways to proxies that are no longer there.
    pub(crate) fn sweep(&self, table: &Table) {
        self.lanes.retain(|id, _| table.proxy(id).is_some());
    }
}

/// The proxy that a certificate belongs to, if it is one to be trusted.
fn holder(table: &Table, certificate: &CertificateDer<'_>) -> Option<Arc<ProxyResource>> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let is_of = |proxy: &ProxyResource| {
        let name = ServerName::try_from(peer_name(&proxy.id));
        name.is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
    };
    table.proxies().find(|proxy| is_of(proxy)).cloned()
}
