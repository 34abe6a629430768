//! What every request handler can reach.

use std::sync::Arc;

use crate::{
    identity::Identity, operations::Operations, peers::Peers, registry::Registry, tasks::Tasks,
};

/// The use cases behind all interfaces. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) registry: Registry,
    pub(crate) identity: Identity,
    pub(crate) operations: Operations,
    pub(crate) peers: Peers,
    pub(crate) tasks: Tasks,
    pub(crate) app_name: Arc<str>,
    /// The database's URL as it may be shown.
    pub(crate) database_shown: Arc<str>,
}
