//! What can be typed: clap types only, no behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod objects;
pub(crate) mod roles;
pub(crate) mod token;
pub(crate) mod tools;
pub(crate) mod translate;

pub(crate) use objects::{ApplyArgs, CreateObject, DeleteArgs, Object, Plural, UpdateObject};
pub(crate) use roles::{ConfigCommand, ConnectArgs, ControlPlaneArgs, DataPlaneArgs, UpArgs};
pub(crate) use token::TokenCommand;
pub(crate) use tools::ToolsCommand;
pub(crate) use translate::TranslateArgs;

/// Lockgate: one gateway in front of all your MCP servers.
#[derive(Debug, Parser)]
#[command(name = "lockgate", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ok, 1 general, 2 usage, 3 not found, 4 authentication or \
permission, 5 conflict, 6 timeout or unavailable, 7 validation, 8 partly done, 130 interrupted.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the control plane is and how to talk.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Data directory of the instance [default: $XDG_DATA_HOME/lockgate or ~/.local/share/lockgate]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Control plane to talk to, instead of the instance on the data directory
    #[arg(long, global = true, value_name = "URL", conflicts_with = "data_dir")]
    pub address: Option<String>,
    /// Token for --address or `connect`, or for clients of `translate --expose-…`; better in LOCKGATE_TOKEN or LOCKGATE_TOKEN_FILE
    #[arg(long, global = true, value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Configuration file [default: lockgate.yaml in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the answer on stdout
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
    /// Nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Longest time for the whole command, in seconds [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
    /// Names only, one per line
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run control plane and proxy in one process
    Up(UpArgs),
    /// Run a control plane alone
    ControlPlane(ControlPlaneArgs),
    /// Run a proxy alone
    DataPlane(DataPlaneArgs),
    /// Serve MCP on stdin and stdout, for clients that start a command
    Connect(ConnectArgs),
    /// Offer a command over HTTP, or a server over HTTP on stdin and stdout
    Translate(Box<TranslateArgs>),
    /// Register something
    Create {
        #[command(subcommand)]
        object: CreateObject,
    },
    /// List objects, or show one by name or id
    Get(GetArgs),
    /// Show everything that is known about one object
    Describe {
        #[command(subcommand)]
        object: Object,
    },
    /// Change an object; what is not named stays
    Update {
        #[command(subcommand)]
        object: UpdateObject,
    },
    /// Remove an object
    Delete {
        #[command(subcommand)]
        object: DeleteObject,
    },
    /// Read the catalog of an upstream again
    Refresh {
        #[command(subcommand)]
        object: RefreshObject,
    },
    /// Create or update objects from a file, all or nothing
    Apply(ApplyArgs),
    /// API tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Proxies that run apart from the control plane
    Proxy {
        #[command(subcommand)]
        command: ProxyCommand,
    },
    /// List and call tools through a proxy, as a client does
    Tools {
        #[command(subcommand)]
        command: ToolsCommand,
    },
    /// How the running system is
    Status,
    /// Versions of this program and of the control plane it talks to
    Version {
        /// Do not ask the control plane
        #[arg(long)]
        client: bool,
    },
    /// Check or print the configuration that a role would run with
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[arg(value_enum)]
    pub kind: Plural,
    /// Name or id; without it, all are listed
    pub name: Option<String>,
    /// Only what this upstream offers
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeleteObject {
    Upstream(DeleteArgs),
    Tool(DeleteArgs),
    Server(DeleteArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RefreshObject {
    Upstream {
        /// Name or id
        name: String,
        /// Do not wait for the result
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// A secret that lets one new proxy join; alone on stdout
    JoinToken {
        /// How long it can be used, in minutes
        #[arg(long, value_name = "MINUTES", default_value_t = 10)]
        valid: u32,
    },
    /// End the trust in a proxy: its credential, its certificate, its place among the others
    Revoke {
        /// As `get proxies` shows it
        id: String,
    },
}

#[cfg(test)]
mod tests;
