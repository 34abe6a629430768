//! The proxy's part of the settings.

use std::{net::TcpListener, time::Duration};

use data_plane::{
    Config, DataPlane, StartError,
    config::{Control, Limits, Management, Network, Stdio, Timeouts},
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
}

impl Listeners {
    pub(crate) fn bind(settings: &Settings) -> Result<Self, Failure> {
        let clients = listen::bind(&settings.listen, 4444)?;
        let ops = if settings.ops_listen.is_empty() {
            Vec::new()
        } else {
            listen::bind(&settings.ops_listen, 0)?
        };
        Ok(Self { clients, ops })
    }
}

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
    let stdio = match settings.allow_stdio {
        None => stdio,
        Some(true) => Stdio::Allowed,
        Some(false) => Stdio::Refused,
    };
    let mut limits = Limits::default();
    limits.body_bytes = settings.max_body_bytes.unwrap_or(limits.body_bytes);
    limits.page_size = settings.page_size;
    Ok(Config {
        data_dir: settings.data_dir.join("proxy"),
        listeners: listeners.clients,
        ops_listeners: listeners.ops,
        advertise_address: settings.advertise_address.clone().unwrap_or(url),
        control,
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
