//! The control plane: registry, identity, and the configuration of every proxy.

pub mod caller;
pub mod clock;
pub mod error;
pub mod seal;
pub mod store;
