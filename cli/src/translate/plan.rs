//! What the flags of `translate` ask for, and what of it makes no sense.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use proto::{
    Secret,
    upstream::{StdioMode, parse_url},
};
use url::Url;

use super::words;
use crate::{
    args::{TranslateArgs, translate::Sharing},
    failure::{Exit, Failure},
};

const PORT: u16 = 8000;
const HOST: &str = "127.0.0.1";

/// What is to be done.
#[derive(Debug)]
pub(super) enum Plan {
    Serve(Serve),
    Pipe(Pipe),
}

/// A server that clients reach over HTTP.
#[derive(Debug)]
pub(super) struct Serve {
    pub server: Server,
    pub listen: SocketAddr,
    pub streamable_http: Option<Http>,
    pub sse: Option<Sse>,
    /// The token that clients must present.
    pub token: Option<Secret<String>>,
    pub origins: Vec<String>,
    pub keep_alive: Duration,
}

/// Streamable HTTP, at `/mcp`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http {
    pub stateless: bool,
    pub json: bool,
}

/// HTTP+SSE and its paths.
#[derive(Debug)]
pub(super) struct Sse {
    pub events: String,
    pub messages: String,
}

/// What is translated.
#[derive(Debug)]
pub(super) enum Server {
    Command { words: Vec<String>, mode: StdioMode },
    Url { url: Url, transport: Transport, bearer: Option<Secret<String>> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Sse,
    StreamableHttp,
}

/// A server behind a URL that a client reaches over pipes.
#[derive(Debug)]
pub(super) struct Pipe {
    pub url: Url,
    pub transport: Transport,
    pub bearer: Option<Secret<String>>,
    /// The client to start; `None`: our own stdin and stdout.
    pub client: Option<Vec<String>>,
}

/// The tokens that were given besides the one for the server.
#[derive(Debug)]
pub(super) struct Tokens {
    /// By flag.
    pub said: Option<Secret<String>>,
    /// By flag or environment. Those of the environment are for a gateway of one's own, and
    /// nothing to show to other servers.
    pub ours: Option<Secret<String>>,
}

impl Plan {
    pub(super) fn of(args: &TranslateArgs, tokens: Tokens) -> Result<Self, Failure> {
        refuse_strange(args)?;
        let server = server(args)?;
        let is_exposed = args.expose_sse || args.expose_streamable_http;
        match server {
            Server::Url { url, transport, bearer } if !is_exposed => {
                refuse_without_listener(args)?;
                let client = args.stdio_command.as_deref().map(|it| command("--stdio-command", it));
                let bearer = bearer.or(tokens.said);
                Ok(Self::Pipe(Pipe { url, transport, bearer, client: client.transpose()? }))
            }
            server => serve(args, server, tokens.ours).map(Self::Serve),
        }
    }
}

fn server(args: &TranslateArgs) -> Result<Server, Failure> {
    let bearer = || args.oauth2_bearer.as_deref().map(Secret::from);
    match (&args.stdio, &args.connect_sse, &args.connect_streamable_http) {
        (Some(text), None, None) => {
            if args.oauth2_bearer.is_some() {
                return Err(Failure::usage(
                    "--oauth2-bearer is for a server at --connect-…, not for a command",
                )
                .hint("--token is what clients must present"));
            }
            let mode = match args.stdio_mode {
                Some(Sharing::Shared) => StdioMode::Shared,
                Some(Sharing::PerSession) | None => StdioMode::PerSession,
            };
            Ok(Server::Command { words: command("--stdio", text)?, mode })
        }
        (None, Some(url), None) => {
            let url = checked("--connect-sse", url)?;
            Ok(Server::Url { url, transport: Transport::Sse, bearer: bearer() })
        }
        (None, None, Some(url)) => {
            let url = checked("--connect-streamable-http", url)?;
            Ok(Server::Url { url, transport: Transport::StreamableHttp, bearer: bearer() })
        }
        (None, None, None) => Err(Failure::usage(
            "one of --stdio, --connect-sse and --connect-streamable-http is required",
        )
        .hint("such as --stdio \"uvx mcp-server-git\" --expose-streamable-http")),
        _ => Err(Failure::usage(
            "--stdio, --connect-sse and --connect-streamable-http exclude each other",
        )),
    }
}

fn checked(flag: &str, url: &str) -> Result<Url, Failure> {
    parse_url(flag, url).map_err(|error| Failure::usage(error.to_string()))
}

fn serve(
    args: &TranslateArgs,
    server: Server,
    token: Option<Secret<String>>,
) -> Result<Serve, Failure> {
    if args.stdio_command.is_some() {
        return Err(Failure::usage(
            "--stdio-command is for --connect-… without --expose-…: it names a client",
        ));
    }
    if args.stdio_mode.is_some() && matches!(server, Server::Url { .. }) {
        return Err(Failure::usage("--stdio-mode is of --stdio"));
    }
    let is_http = args.expose_streamable_http;
    let is_sse = args.expose_sse || !is_http;
    if !is_http && (args.stateless || args.json_response) {
        return Err(Failure::usage(
            "--stateless and --json-response are of --expose-streamable-http",
        ));
    }
    if !is_sse && (args.sse_path.is_some() || args.message_path.is_some()) {
        return Err(Failure::usage("--sse-path and --message-path are of --expose-sse"));
    }
    let sse = is_sse.then(|| Sse {
        events: path(args.sse_path.as_deref().unwrap_or("/sse")),
        messages: path(args.message_path.as_deref().unwrap_or("/message")),
    });
    if let Some(Sse { events, messages }) = &sse
        && (events == messages || is_http && [events, messages].contains(&&"/mcp".to_owned()))
    {
        return Err(Failure::usage("each of /mcp, --sse-path and --message-path must differ"));
    }
    let listen = listen(args)?;
    if token.is_none() && !listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "--token is required to listen on {}: without it, everybody there may use the server",
            listen.ip()
        )));
    }
    Ok(Serve {
        server,
        listen,
        streamable_http: is_http
            .then_some(Http { stateless: args.stateless, json: args.json_response }),
        sse,
        token,
        origins: args.cors.clone(),
        keep_alive: Duration::from_secs(args.keep_alive.unwrap_or(30)),
    })
}

fn listen(args: &TranslateArgs) -> Result<SocketAddr, Failure> {
    let host = args.host.as_deref().unwrap_or(HOST);
    let found = (host, args.port.unwrap_or(PORT)).to_socket_addrs();
    let address = found.ok().and_then(|mut addresses| addresses.next());
    address.ok_or_else(|| Failure::usage(format!("--host: `{host}` is no address of this machine")))
}

fn path(text: &str) -> String {
    format!("/{}", text.trim_matches('/'))
}

fn command(flag: &str, text: &str) -> Result<Vec<String>, Failure> {
    words::split(text).map_err(|why| Failure::usage(format!("{flag}: `{text}`: {why}")))
}

/// Flags of ContextForge that cannot be followed here.
fn refuse_strange(args: &TranslateArgs) -> Result<(), Failure> {
    let refused = &args.refused;
    let is_grpc = refused.grpc.is_some()
        || refused.connect_grpc.is_some()
        || refused.grpc_tls
        || refused.grpc_cert.is_some()
        || refused.grpc_key.is_some()
        || !refused.grpc_metadata.is_empty();
    if is_grpc {
        return Err(Failure::usage("--grpc… and --connect-grpc: gRPC services are not translated"));
    }
    if refused.enable_dynamic_env || !refused.header_to_env.is_empty() {
        return Err(Failure::usage(
            "--enable-dynamic-env and --header-to-env: a request must not set the environment \
             of a process that other requests use",
        )
        .hint("commands inherit the environment of `lockgate translate`"));
    }
    Ok(())
}

/// Flags that say how to listen, where nothing listens.
fn refuse_without_listener(args: &TranslateArgs) -> Result<(), Failure> {
    let given = [
        ("--port", args.port.is_some()),
        ("--host", args.host.is_some()),
        ("--cors", !args.cors.is_empty()),
        ("--sse-path", args.sse_path.is_some()),
        ("--message-path", args.message_path.is_some()),
        ("--keep-alive", args.keep_alive.is_some()),
        ("--stateless", args.stateless),
        ("--json-response", args.json_response),
        ("--stdio-mode", args.stdio_mode.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => Err(Failure::usage(format!(
            "{flag} needs --expose-sse or --expose-streamable-http: without them the server is \
             offered on stdin and stdout"
        ))),
    }
}

/// Fails if there is no such program.
pub(super) fn check_program(words: &[String], search: Option<&str>) -> Result<(), Failure> {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let is_there = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        search.unwrap_or_default().split(':').any(|dir| Path::new(dir).join(program).is_file())
    };
    if is_there {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, "not_found", format!("command not found: `{program}`")))
}

#[cfg(test)]
mod tests;
