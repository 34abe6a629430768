//! A running data-plane process, as the control plane knows it.

use sha2::{Digest as _, Sha256};

use crate::wire;

/// Capability of a proxy that may run stdio children.
pub const STDIO_HOST: &str = "stdio-host";

/// The name in a proxy's certificate: what it is called by other proxies. An id may hold
/// characters that a host name may not, so the name is made of its hash.
pub fn peer_name(proxy_id: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(proxy_id.as_bytes()).into();
    let half = digest.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
    format!("p{half:032x}.proxy.lockgate.internal")
}

/// What is wrong with one field of one resource of a refused update.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// `upstream/time`.
    pub resource: String,
    /// `stdio.command`.
    pub field: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub id: String,
    pub advertise_address: String,
    pub version: String,
    pub connected: bool,
    pub applied_revision: u64,
    pub rejected_revision: Option<u64>,
    pub rejected_errors: Vec<FieldError>,
    pub last_seen_ms: i64,
    pub capabilities: Vec<String>,
    pub apply_ms: u32,
    pub boot_epoch: u64,
    /// Where other proxies are sent to it; empty: it takes no part among them.
    pub peer_address: String,
}

impl From<FieldError> for wire::FieldError {
    fn from(error: FieldError) -> Self {
        let FieldError { resource, field, message } = error;
        Self { resource, field, message }
    }
}

impl From<wire::FieldError> for FieldError {
    fn from(error: wire::FieldError) -> Self {
        let wire::FieldError { resource, field, message } = error;
        Self { resource, field, message }
    }
}

impl From<Proxy> for wire::Proxy {
    fn from(proxy: Proxy) -> Self {
        let Proxy {
            id,
            advertise_address,
            version,
            connected,
            applied_revision,
            rejected_revision,
            rejected_errors,
            last_seen_ms,
            capabilities,
            apply_ms,
            boot_epoch,
            peer_address,
        } = proxy;
        Self {
            id,
            advertise_address,
            version,
            connected,
            applied_revision,
            rejected_revision: rejected_revision.unwrap_or(0),
            rejected_errors: rejected_errors.into_iter().map(Into::into).collect(),
            last_seen_ms,
            capabilities,
            apply_ms,
            boot_epoch,
            peer_address,
        }
    }
}
