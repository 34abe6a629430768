//! Arguments of `translate`. The spellings with capitals are ContextForge's.

use clap::{Args, ValueEnum};

/// One MCP server, or one URL, in another transport than its own.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct TranslateArgs {
    /// Command to offer over HTTP, such as "uvx mcp-server-git"; quotes as in a shell
    #[arg(long, value_name = "COMMAND")]
    pub stdio: Option<String>,
    /// Server over HTTP+SSE; without --expose-… it is offered on stdin and stdout
    #[arg(long, value_name = "URL")]
    pub connect_sse: Option<String>,
    /// Server over Streamable HTTP; without --expose-… it is offered on stdin and stdout
    #[arg(long, value_name = "URL")]
    pub connect_streamable_http: Option<String>,
    /// Offer it over HTTP+SSE [default for --stdio]
    #[arg(long)]
    pub expose_sse: bool,
    /// Offer it over Streamable HTTP, at /mcp
    #[arg(long)]
    pub expose_streamable_http: bool,
    /// Port to listen on [default: 8000]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Address to listen on [default: 127.0.0.1]; another than this machine needs --token
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// What is logged on stderr
    #[arg(long, alias = "logLevel", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Browser origins that may call, besides this machine's
    #[arg(long, value_name = "ORIGIN", num_args = 0..)]
    pub cors: Vec<String>,
    /// Bearer token for the server at --connect-…
    #[arg(long, alias = "oauth2Bearer", value_name = "TOKEN")]
    pub oauth2_bearer: Option<String>,
    /// Path of the event stream [default: /sse]
    #[arg(long, alias = "ssePath", value_name = "PATH")]
    pub sse_path: Option<String>,
    /// Path for messages of clients of the event stream [default: /message]
    #[arg(long, alias = "messagePath", value_name = "PATH")]
    pub message_path: Option<String>,
    /// Silence before a sign of life on event streams, in seconds [default: 30]
    #[arg(long, alias = "keepAlive", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub keep_alive: Option<u64>,
    /// Client to start, whose stdin and stdout lead to the server at --connect-…
    #[arg(long, alias = "stdioCommand", value_name = "COMMAND")]
    pub stdio_command: Option<String>,
    /// Streamable HTTP without sessions
    #[arg(long)]
    pub stateless: bool,
    /// Answers over Streamable HTTP are JSON, never event streams
    #[arg(long, alias = "jsonResponse")]
    pub json_response: bool,
    /// Who shares a process of --stdio [default: per-session]
    #[arg(long, value_enum, value_name = "MODE")]
    pub stdio_mode: Option<Sharing>,
    #[command(flatten)]
    pub refused: Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sharing {
    /// All clients; ids and notifications are kept apart
    Shared,
    /// Each client session has a process of its own
    PerSession,
}

/// Flags of ContextForge that are understood only to say why they are refused.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Refused {
    #[arg(long, hide = true, value_name = "TARGET")]
    pub grpc: Option<String>,
    #[arg(long, hide = true, value_name = "TARGET")]
    pub connect_grpc: Option<String>,
    #[arg(long, hide = true)]
    pub grpc_tls: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    pub grpc_cert: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    pub grpc_key: Option<String>,
    #[arg(long, hide = true, value_name = "PAIR")]
    pub grpc_metadata: Vec<String>,
    #[arg(long, hide = true)]
    pub enable_dynamic_env: bool,
    #[arg(long, hide = true, value_name = "PAIR")]
    pub header_to_env: Vec<String>,
}
