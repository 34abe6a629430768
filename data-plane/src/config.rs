//! What a proxy is started with: values only, read from flags and environment by the program.

use std::{net::TcpListener, path::PathBuf, time::Duration};

use http::Uri;
use proto::Secret;
use tonic::transport::Channel;

pub use crate::network::{Network, ParseNetworkError};
use crate::{forward::ManagementService, solo::Solo, upstream};

/// Everything that [`crate::DataPlane::start`] needs.
#[derive(Debug)]
pub struct Config {
    /// Holds the proxy's id, its credential and the last known good configuration; commands run
    /// in it.
    pub data_dir: PathBuf,
    /// Bound by the caller, so that a taken port is the caller's error and port 0 is known.
    pub listeners: Vec<TcpListener>,
    /// Serve `/health`, `/ready` and `/metrics` only, without authentication.
    pub ops_listeners: Vec<TcpListener>,
    /// Serve other proxies of the same control plane, with mutual TLS; none: this proxy keeps to
    /// itself, and serves whatever session reaches it.
    pub peer_listeners: Vec<TcpListener>,
    /// Where clients reach this proxy.
    pub advertise_address: String,
    /// Where other proxies reach it, `HOST:PORT`; empty without `peer_listeners`.
    pub peer_address: String,
    pub source: Source,
    pub management: Management,
    pub stdio: Stdio,
    /// `Host` values answered, besides loopback names on loopback listeners; empty: any host on
    /// listeners that are not loopback.
    pub allowed_hosts: Vec<String>,
    /// Origins of browsers that may call, besides the own host.
    pub allowed_origins: Vec<String>,
    /// Peers whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Path prefix to strip, for example `/gateway`; empty: none.
    pub root_path: String,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Threads that serve requests; 0: one per core.
    pub threads: usize,
}

/// Who says what this proxy serves.
#[derive(Debug)]
pub enum Source {
    ControlPlane(Control),
    /// One upstream itself; nothing is kept on disk.
    Upstream(Box<Solo>),
}

/// Where configuration comes from.
#[derive(Clone, Debug)]
pub enum Control {
    /// The control plane in this process, over its in-process channel.
    InProcess(Channel),
    /// A control plane elsewhere; `join_token` is used once, to enrol.
    Remote { address: Uri, join_token: Option<Secret<String>> },
}

/// Where requests for management paths (`/admin`, `/tools`, gRPC …) go.
#[derive(Clone, Debug, Default)]
pub enum Management {
    /// They are not found here.
    #[default]
    Off,
    /// A service in this process: see [`ManagementService::new`].
    InProcess(ManagementService),
    /// The control plane's management port.
    Remote(Uri),
}

/// Whether this proxy runs the commands of stdio upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    Allowed,
    #[default]
    Refused,
}

/// Bounds on what a client can make the proxy hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Longest request target, in bytes.
    pub url_bytes: usize,
    /// Connections of one address; loopback and trusted proxies are exempt.
    pub connections_per_ip: u32,
    /// Calls of one legacy session that run at the same time.
    pub calls_per_session: usize,
    /// Streams and sockets that one principal may have open; loopback and trusted proxies are
    /// exempt.
    pub streams_per_principal: usize,
    /// Largest message of an upstream, in bytes.
    pub message_bytes: usize,
    /// Items of one page of a list; 0: lists have one page, since many clients ask for no more.
    pub page_size: usize,
    /// Processes of stdio upstreams, of all and of one.
    pub processes: usize,
    pub processes_per_upstream: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            head_bytes: 32 << 10,
            url_bytes: 8 << 10,
            connections_per_ip: 256,
            calls_per_session: 128,
            streams_per_principal: 256,
            message_bytes: 16 << 20,
            page_size: 0,
            processes: 256,
            processes_per_upstream: 64,
        }
    }
}

/// How long the proxy waits for what.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a request's head to its end.
    pub head: Duration,
    /// A connection without a request, and a client that does not read its answer.
    pub idle: Duration,
    /// From the head of a request to the end of its body.
    pub body: Duration,
    /// Silence before a comment is sent on an event stream, and before an answer becomes one.
    pub keep_alive: Duration,
    /// Silence of an upstream during a call; progress resets it.
    pub call: Duration,
    /// A whole call.
    pub call_total: Duration,
    /// A legacy session without a request, before its upstream sessions are closed.
    pub session_idle: Duration,
    /// From "not ready" to the end of accepting, for load balancers to notice.
    pub drain_delay: Duration,
    /// From the end of accepting to the end of calls that still run.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            body: Duration::from_mins(1),
            keep_alive: Duration::from_secs(15),
            call: Duration::from_mins(2),
            call_total: Duration::from_hours(1),
            session_idle: Duration::from_mins(30),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

impl From<Stdio> for upstream::AllowStdio {
    fn from(stdio: Stdio) -> Self {
        match stdio {
            Stdio::Allowed => Self::Yes,
            Stdio::Refused => Self::No,
        }
    }
}

impl From<&Config> for upstream::Limits {
    fn from(config: &Config) -> Self {
        Self {
            call_timeout: config.timeouts.call,
            max_call_duration: config.timeouts.call_total,
            message_max: config.limits.message_bytes,
            session_idle: config.timeouts.session_idle,
            children: config.limits.processes,
            children_per_upstream: config.limits.processes_per_upstream,
        }
    }
}
