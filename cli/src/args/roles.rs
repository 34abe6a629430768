//! Arguments of the programs that keep running.

use clap::{Args, Subcommand};

/// Settings that may also stand in the environment or in the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct UpArgs {
    /// Address to listen on; may be repeated [default: port 4444 of both loopbacks]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ControlPlaneArgs {
    /// Address of gRPC, REST and UI; may be repeated [default: port 4445 of both loopbacks]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// Address where proxies join and follow, TLS; may be repeated [default: 0.0.0.0:4447]
    #[arg(long, value_name = "ADDRESS")]
    pub sync_listen: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DataPlaneArgs {
    /// Address to listen on; may be repeated [default: port 4444 of both loopbacks]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// Sync address of the control plane
    #[arg(long, value_name = "URL")]
    pub control: Option<String>,
    /// One-time secret of `lockgate proxy join-token`; needed until the proxy has joined
    #[arg(long, value_name = "TOKEN")]
    pub join: Option<String>,
    /// Where the control plane serves gRPC and REST; management paths are forwarded there
    #[arg(long, value_name = "URL")]
    pub management: Option<String>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

/// Also from MCP_SERVER_URL, MCP_AUTH and MCP_TOOL_CALL_TIMEOUT.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectArgs {
    /// Endpoint of the gateway, or of any MCP server over Streamable HTTP
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Virtual server of the gateway at --url
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StoreArgs {
    /// SQLite file or Postgres [default: sqlite in the data directory]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Refuse weak secrets
    #[arg(long)]
    pub strict: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProxyArgs {
    /// Run stdio upstreams here [default: true in `up`, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_stdio: Option<bool>,
    /// Address for metrics, health and readiness without authentication
    #[arg(long, value_name = "ADDRESS")]
    pub ops_listen: Option<String>,
    /// URL under which clients and other proxies reach this one [default: the first --listen]
    #[arg(long, value_name = "URL")]
    pub advertise_address: Option<String>,
    /// Address for other proxies, mutual TLS; may be repeated; `off` for none
    /// [default: port 4448 beside --listen in `data-plane`, off in `up`]
    #[arg(long, value_name = "ADDRESS")]
    pub peer_listen: Vec<String>,
    /// HOST:PORT under which other proxies reach this one [default: of --peer-listen]
    #[arg(long, value_name = "ADDRESS")]
    pub peer_advertise_address: Option<String>,
    /// Accepted `Host` besides the loopback names; may be repeated
    #[arg(long = "allowed-host", value_name = "HOST")]
    pub allowed_hosts: Vec<String>,
    /// Accepted browser `Origin`; may be repeated
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    pub allowed_origins: Vec<String>,
    /// Proxy in front whose X-Forwarded headers count, address or CIDR; may be repeated
    #[arg(long = "trusted-proxy", value_name = "ADDRESS")]
    pub trusted_proxies: Vec<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report everything that is wrong with it
    Check,
    /// The effective settings and where each comes from; secrets are masked
    Print,
}
