//! The proxy: speaks MCP with clients and upstreams, configured by a control plane.

mod connection;
mod drain;
mod edge;
mod error;
mod exchange;
mod network;
mod server;
mod sessions;
mod stream;
mod telemetry;
mod transport;

pub mod auth;
pub mod client;
pub mod config;
pub mod control;
pub mod discovery;
pub mod egress;
pub mod forward;
pub mod limit;
pub mod mcp;
pub mod reports;
pub mod route;
pub mod session;
pub mod snapshot;
pub mod upstream;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
pub use config::Config;
use pingora::services::background::BackgroundService;
pub use server::StartError;

use crate::{
    drain::Drain,
    edge::Edge,
    server::{Listeners, Parts, Shell},
};

/// A running proxy.
pub struct DataPlane {
    addresses: Vec<SocketAddr>,
    shell: Shell,
}

impl DataPlane {
    /// Starts to answer on the listeners; returns at once.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        server::raise_file_limit();
        let drain = Drain::new(config.timeouts.drain_delay, config.timeouts.drain);
        let listeners = Listeners::new(
            std::mem::take(&mut config.listeners),
            std::mem::take(&mut config.ops_listeners),
        )?;
        let addresses = listeners.addresses();
        let edge = Arc::new(Edge::new(&config, drain.clone()));
        let threads = config.threads;
        let shell = Shell::start(Parts { listeners, edge, drain, background: Follow, threads })?;
        Ok(Self { addresses, shell })
    }

    /// Where clients reach it, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Drains and ends; blocks until all threads have ended.
    pub fn stop(self) {
        self.shell.stop();
    }
}

struct Follow;

#[async_trait]
impl BackgroundService for Follow {}

#[cfg(test)]
mod tests;
