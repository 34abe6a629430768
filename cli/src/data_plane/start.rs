//! The proxy's part of the settings.

use std::{net::TcpListener, time::Duration};

use data_plane::{
    Config, DataPlane, StartError,
    config::{Control, Limits, Management, Network, Source, Stdio, Timeouts},
};

use crate::{
    config::Settings,
    failure::{Exit, Failure},
    listen,
    roles::one_line,
};

/// Where a proxy listens, already bound.
pub(crate) struct Listeners {
    pub clients: Vec<TcpListener>,
    pub ops: Vec<TcpListener>,
    pub peers: Vec<TcpListener>,
}

impl Listeners {
    /// `peers`: what listens for other proxies where nothing is said.
    pub(crate) fn bind(settings: &Settings, peers: PeerListen) -> Result<Self, Failure> {
        let clients = listen::bind(&settings.listen, 4444)?;
        let ops = if settings.ops_listen.is_empty() {
            Vec::new()
        } else {
            listen::bind(&settings.ops_listen, 0)?
        };
        let peers = match (&settings.peer_listen, peers) {
            (Some(given), _) if given.is_empty() => Vec::new(),
            (Some(given), _) => listen::bind(given, 0)?,
            (None, PeerListen::Off) => Vec::new(),
            (None, PeerListen::BesideClients) => vec![listen::beside(&clients, PEER_PORT)?],
        };
        Ok(Self { clients, ops, peers })
    }
}

/// Whether a role listens for other proxies unless it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerListen {
    Off,
    BesideClients,
}

/// Where other proxies reach a proxy; the system's choice where this one is taken, since they
/// are told it by the control plane.
const PEER_PORT: u16 = 4448;

/// What the role decides: where configuration comes from, and what is allowed unless said.
pub(crate) struct Sources {
    pub control: Control,
    pub management: Management,
    pub stdio: Stdio,
}

/// What a proxy is started with.
pub(crate) fn config(
    settings: &Settings,
    listeners: Listeners,
    sources: Sources,
) -> Result<Config, Failure> {
    let Sources { control, management, stdio } = sources;
    let url = listen::url(&listen::addresses(&listeners.clients));
    let peer_address = peer_address(settings, &listeners.peers)?;
    // The configuration on disk may still have commands that the deployment has forbidden since.
    let stdio = match settings.allow_stdio.filter(|_| settings.stdio_upstreams) {
        None if settings.stdio_upstreams => stdio,
        Some(true) => Stdio::Allowed,
        None | Some(false) => Stdio::Refused,
    };
    let mut limits = Limits::default();
    limits.body_bytes = settings.max_body_bytes.unwrap_or(limits.body_bytes);
    limits.page_size = settings.page_size;
    limits.processes = settings.stdio_processes.unwrap_or(limits.processes);
    limits.processes_per_upstream =
        settings.stdio_processes_per_upstream.unwrap_or(limits.processes_per_upstream);
    Ok(Config {
        data_dir: settings.data_dir.join("proxy"),
        listeners: listeners.clients,
        ops_listeners: listeners.ops,
        peer_listeners: listeners.peers,
        peer_address,
        advertise_address: settings.advertise_address.clone().unwrap_or(url),
        source: Source::ControlPlane(control),
        management,
        stdio,
        allowed_hosts: settings.allowed_hosts.clone(),
        allowed_origins: settings.allowed_origins.clone(),
        trusted_proxies: networks(&settings.trusted_proxies)?,
        root_path: settings.root_path.clone(),
        limits,
        timeouts: timeouts(settings),
        threads: settings.threads,
    })
}

/// What other proxies are told: what was said, else where we listen, on the address by which
/// this machine is seen from the control plane.
fn peer_address(settings: &Settings, listeners: &[TcpListener]) -> Result<String, Failure> {
    let Some(address) = listen::addresses(listeners).first().copied() else {
        return Ok(String::new());
    };
    if let Some(given) = &settings.peer_advertise_address {
        return Ok(given.clone());
    }
    if !address.ip().is_unspecified() {
        return Ok(address.to_string());
    }
    let seen = settings.control.as_deref().and_then(listen::outward_ip).ok_or_else(|| {
        Failure::usage("--peer-advertise-address is required: HOST:PORT for other proxies")
    })?;
    Ok(std::net::SocketAddr::new(seen, address.port()).to_string())
}

/// Starts a proxy on threads of its own.
pub(crate) fn start(config: Config) -> Result<DataPlane, Failure> {
    DataPlane::start(config).map_err(|error| {
        let code = match &error {
            StartError::DataDir { .. } => "data_dir_unwritable",
            StartError::Listener(_) | StartError::NoListener => "listener",
            StartError::Thread(_) => "io",
        };
        Failure::new(Exit::General, code, one_line(&error))
    })
}

fn timeouts(settings: &Settings) -> Timeouts {
    let usual = Timeouts::default();
    let or = |given: Option<Duration>, usual| given.unwrap_or(usual);
    Timeouts {
        call: or(settings.call_timeout, usual.call),
        call_total: or(settings.max_call_duration, usual.call_total),
        session_idle: or(settings.session_idle, usual.session_idle).max(Duration::from_secs(1)),
        drain_delay: or(settings.drain_delay, usual.drain_delay),
        drain: or(settings.drain_timeout, usual.drain),
        ..usual
    }
}

fn networks(texts: &[String]) -> Result<Vec<Network>, Failure> {
    let parse = |text: &String| {
        text.parse().map_err(|error| Failure::usage(format!("trusted_proxies: `{text}` {error}")))
    };
    texts.iter().map(parse).collect()
}
