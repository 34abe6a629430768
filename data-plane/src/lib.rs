//! The proxy: speaks MCP with clients and upstreams, configured by a control plane.

mod background;
mod connection;
mod deadline;
mod drain;
mod edge;
mod engine;
mod error;
mod exchange;
mod lines;
mod network;
mod ownership;
mod peer;
mod server;
mod sessions;
mod stream;
mod tasks;
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
pub mod solo;
pub mod target;
pub mod task_id;
pub mod upstream;

use std::{net::SocketAddr, sync::Arc};

pub use config::Config;
pub use server::StartError;

use crate::{
    background::Background,
    config::Source,
    drain::Drain,
    edge::{Edge, Shared},
    egress::Egress,
    peer::outbox::Outbox,
    server::{Listeners, Parts, Shell, Use},
    snapshot::{current::Current, stream::Snapshot},
    upstream::Upstreams,
};

/// A running proxy.
pub struct DataPlane {
    addresses: Vec<SocketAddr>,
    proxy_id: String,
    current: Arc<Current>,
    shell: Shell,
}

impl DataPlane {
    /// Starts to answer on the listeners, from the configuration on disk where there is one;
    /// returns at once.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        server::raise_file_limit();
        let listeners = Listeners::new([
            (std::mem::take(&mut config.listeners), Use::Clients),
            (std::mem::take(&mut config.ops_listeners), Use::Operators),
            (std::mem::take(&mut config.peer_listeners), Use::Peers),
        ])?;
        let addresses = listeners.addresses();
        let allow_stdio = config.stdio.into();
        let limits = upstream::Limits::from(&config);
        let upstreams = Upstreams::new(Egress::new(), allow_stdio, config.data_dir.clone(), limits);
        let current = Arc::new(Current::new({
            let upstreams = Arc::clone(&upstreams);
            move |table| upstreams.reconcile(table)
        }));
        let page_size = config.limits.page_size;
        let (snapshot, proxy_id, outbox) = match &config.source {
            Source::ControlPlane(_) => {
                let snapshot = Snapshot::open(&config.data_dir, Arc::clone(&current), page_size)?;
                let proxy_id = snapshot.identity().id.clone();
                let outbox = Outbox::open(snapshot.directory());
                (Some(snapshot), proxy_id, outbox)
            }
            Source::Upstream(_) => (None, uuid::Uuid::new_v4().to_string(), Outbox::default()),
        };
        let shared = Shared {
            drain: Drain::new(config.timeouts.drain_delay, config.timeouts.drain),
            proxy_id: proxy_id.clone(),
            current: Arc::clone(&current),
            upstreams,
            outbox: Arc::new(outbox),
        };
        let edge = Arc::new(Edge::new(&config, shared));
        let threads = config.threads;
        let background = Arc::new(Background::new(config, snapshot, Arc::clone(&edge)));
        let shell = Shell::start(Parts { listeners, edge, background, threads })?;
        Ok(Self { addresses, proxy_id, current, shell })
    }

    /// Where clients reach it, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The stable id of this proxy, kept in its data directory.
    pub fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// The configuration that it serves.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Drains and ends; blocks until all threads have ended.
    pub fn stop(self) {
        self.shell.stop();
    }
}

#[cfg(test)]
mod tests;
