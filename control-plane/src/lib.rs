//! The control plane: registry, identity, and the configuration of every proxy.

pub(crate) mod api;
pub mod caller;
pub mod changes;
pub mod clock;
pub mod config;
pub mod error;
pub mod identity;
pub(crate) mod keys;
pub mod registry;
pub mod seal;
pub mod snapshot;
pub mod store;
pub mod tasks;
