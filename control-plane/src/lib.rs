//! The control plane: registry, identity, and the configuration of every proxy.

pub(crate) mod api;
pub mod caller;
pub mod changes;
pub mod clock;
pub mod config;
mod control_plane;
pub mod discovery;
pub mod error;
pub mod fleet;
pub mod identity;
pub(crate) mod keys;
pub mod operations;
pub(crate) mod peers;
pub mod registry;
pub(crate) mod rest;
pub mod seal;
pub mod server;
pub(crate) mod services;
pub mod snapshot;
pub mod store;
pub mod tasks;
pub(crate) mod upkeep;

pub use config::{Config, StdioUpstreams, Strictness};
pub use control_plane::{ControlPlane, StartError};
pub use server::ServeError;
