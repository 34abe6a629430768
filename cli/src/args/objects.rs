//! Arguments that name and describe upstreams, tools and servers.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plural {
    #[value(name = "upstreams", alias = "upstream")]
    Upstreams,
    #[value(name = "tools", alias = "tool")]
    Tools,
    #[value(name = "prompts", alias = "prompt")]
    Prompts,
    /// Resources and their templates
    #[value(name = "resources", alias = "resource")]
    Resources,
    #[value(name = "servers", alias = "server")]
    Servers,
    #[value(name = "proxies", alias = "proxy")]
    Proxies,
    #[value(name = "tokens", alias = "token")]
    Tokens,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Object {
    Upstream { name: String },
    Tool { name: String },
    Server { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CreateObject {
    /// An MCP server to forward to, by URL or by command
    Upstream(CreateUpstream),
    /// A tool that is one HTTP request
    Tool(CreateTool),
    /// A virtual server: a selection of tools with its own endpoint
    Server(CreateServer),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpdateObject {
    Upstream(UpdateUpstream),
    Tool(UpdateTool),
    Server(UpdateServer),
}

/// What all writes have.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WriteArgs {
    /// Check, but change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Texts and switches that all objects have.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CommonArgs {
    /// Name for people
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// May be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
}

/// Credentials are sealed at rest and never shown again.
#[derive(Clone, Debug, Default, Args)]
#[command(group(ArgGroup::new("credential").args(["bearer", "basic", "secret_headers"])))]
pub(crate) struct CredentialArgs {
    /// Bearer token to present; `@FILE` reads it from a file, `-` from stdin
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,
    /// HTTP Basic credentials to present; `@FILE` reads them
    #[arg(long, value_name = "USER:PASSWORD")]
    pub basic: Option<String>,
    /// Secret header to present (for a command: secret environment variable); may be repeated;
    /// `NAME=@FILE` reads it from a file
    #[arg(long = "secret-header", visible_alias = "secret-env", value_name = "NAME=VALUE")]
    pub secret_headers: Vec<String>,
}

/// A credential, or none any more.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CredentialChangeArgs {
    #[command(flatten)]
    pub new: CredentialArgs,
    /// Take the stored credential away
    #[arg(long, conflicts_with = "credential")]
    pub no_credential: bool,
}

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("reach").required(true).args(["url", "command"])))]
pub(crate) struct CreateUpstream {
    /// Its tools are shown as NAME-tool; cannot be changed later
    pub name: String,
    /// Endpoint of an MCP server: http://, https://, ws:// or wss://
    #[arg(long)]
    pub url: Option<String>,
    /// How --url is spoken to [default: what the URL and the server say]
    #[arg(long, value_enum, requires = "url")]
    pub transport: Option<UrlTransport>,
    /// Program that speaks MCP on stdin and stdout
    #[arg(long)]
    pub command: Option<String>,
    /// Argument of --command; may be repeated
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true, requires = "command")]
    pub args: Vec<String>,
    /// Environment variable of --command, not secret; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", requires = "command")]
    pub env: Vec<String>,
    /// Working directory of --command
    #[arg(long = "cwd", value_name = "DIR", requires = "command")]
    pub working_directory: Option<String>,
    /// Who shares a process of --command [default: shared]
    #[arg(long, value_enum, requires = "command")]
    pub stdio_mode: Option<StdioMode>,
    /// Who is shown the same [default: shared]
    #[arg(long, value_enum)]
    pub catalog_scope: Option<CatalogScope>,
    #[command(flatten)]
    pub credential: CredentialArgs,
    #[command(flatten)]
    pub common: CommonArgs,
    /// Register it, but do not connect
    #[arg(long)]
    pub disabled: bool,
    /// Do not wait until it is ready
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub write: WriteArgs,
}

/// How an MCP server behind a URL is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UrlTransport {
    /// Streamable HTTP, or HTTP+SSE if the server has only that
    #[value(alias = "streamable-http", alias = "streamablehttp")]
    Http,
    /// HTTP+SSE of 2024-11-05: the URL is that of the event stream
    Sse,
    /// One JSON-RPC message per text frame, subprotocol `mcp`
    #[value(name = "websocket", alias = "ws")]
    WebSocket,
}

/// Who shares a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StdioMode {
    /// One process for all clients
    Shared,
    /// A process per client session (modern clients: per principal)
    PerSession,
}

/// Who is shown the same tools, prompts and resources of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatalogScope {
    /// All clients, what discovery found
    Shared,
    /// Each client session what the upstream shows to it (modern clients: each principal)
    Principal,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreateTool {
    /// The name that clients see
    pub name: String,
    /// `{placeholders}` in path and query are filled from arguments
    #[arg(long)]
    pub url: String,
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(long, default_value = "POST", ignore_case = true)]
    pub method: String,
    /// JSON Schema of the arguments, or @FILE [default: any object]
    #[arg(long, value_name = "JSON|@FILE")]
    pub input_schema: Option<String>,
    /// JSON Schema of the structured result, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub output_schema: Option<String>,
    /// MCP tool annotations, such as {"readOnlyHint":true}, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub annotations: Option<String>,
    /// Header to send, not secret; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    #[command(flatten)]
    pub credential: CredentialArgs,
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreateServer {
    /// Part of its URL: /servers/NAME/mcp
    pub name: String,
    /// All that this upstream offers; may be repeated
    #[arg(long = "upstream", value_name = "NAME")]
    pub upstreams: Vec<String>,
    /// A single tool, by name or id; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    pub tools: Vec<String>,
    /// A single prompt, by name or id; may be repeated
    #[arg(long = "prompt", value_name = "NAME")]
    pub prompts: Vec<String>,
    /// A single resource or template: UPSTREAM/URI, or a URI that one upstream has; may be repeated
    #[arg(long = "resource", value_name = "URI")]
    pub resources: Vec<String>,
    /// Under which names its tools are shown
    #[arg(long, value_enum, default_value_t)]
    pub naming: Naming,
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Naming {
    /// UPSTREAM-tool
    #[default]
    Prefix,
    /// The upstream's own names
    Bare,
}

/// Turns an object on or off.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SwitchArgs {
    #[arg(long, conflicts_with = "disable")]
    pub enable: bool,
    #[arg(long)]
    pub disable: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpdateUpstream {
    /// Name or id
    pub name: String,
    #[arg(
        long,
        conflicts_with_all = ["command", "args", "env", "working_directory", "stdio_mode"]
    )]
    pub url: Option<String>,
    /// How --url is spoken to [default: what the URL and the server say]
    #[arg(long, value_enum, requires = "url")]
    pub transport: Option<UrlTransport>,
    #[arg(long)]
    pub command: Option<String>,
    /// Replaces all arguments; may be repeated
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    pub args: Vec<String>,
    /// Replaces all variables; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    #[arg(long = "cwd", value_name = "DIR")]
    pub working_directory: Option<String>,
    /// Who shares a process of --command
    #[arg(long, value_enum)]
    pub stdio_mode: Option<StdioMode>,
    /// Who is shown the same
    #[arg(long, value_enum)]
    pub catalog_scope: Option<CatalogScope>,
    #[command(flatten)]
    pub credential: CredentialChangeArgs,
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// Fail if the object is not at this version any more
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
    /// Do not wait until it is ready
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpdateTool {
    /// Name or id
    pub name: String,
    #[arg(long)]
    pub url: Option<String>,
    #[arg(long)]
    pub method: Option<String>,
    #[arg(long, value_name = "JSON|@FILE")]
    pub input_schema: Option<String>,
    #[arg(long, value_name = "JSON|@FILE")]
    pub output_schema: Option<String>,
    #[arg(long, value_name = "JSON|@FILE")]
    pub annotations: Option<String>,
    /// Replaces all headers; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    #[command(flatten)]
    pub credential: CredentialChangeArgs,
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// Fail if the object is not at this version any more
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpdateServer {
    /// Name or id
    pub name: String,
    /// Replaces all upstreams; may be repeated
    #[arg(long = "upstream", value_name = "NAME")]
    pub upstreams: Vec<String>,
    /// Replaces all single tools; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    pub tools: Vec<String>,
    /// Replaces all single prompts; may be repeated
    #[arg(long = "prompt", value_name = "NAME")]
    pub prompts: Vec<String>,
    /// Replaces all single resources and templates; may be repeated
    #[arg(long = "resource", value_name = "URI")]
    pub resources: Vec<String>,
    #[arg(long, value_enum)]
    pub naming: Option<Naming>,
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub switch: SwitchArgs,
    /// Fail if the object is not at this version any more
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Fail if the object is not at this version any more
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
    /// Do not fail for what does not exist
    #[arg(long)]
    pub ignore_missing: bool,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// YAML or JSON: one object, a list, or several documents; `-` reads stdin
    #[arg(short, long, value_name = "FILE|-")]
    pub file: PathBuf,
    #[command(flatten)]
    pub write: WriteArgs,
}
