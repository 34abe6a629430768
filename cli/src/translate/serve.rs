//! A server offered over HTTP: a proxy of its own, with that one upstream.

use std::{collections::BTreeMap, path::Path, time::Duration};

use data_plane::{
    Config, DataPlane,
    auth::Admission,
    config::{Limits, Management, Source, Stdio, Timeouts},
    solo::{Answers, Entrance, NotBegun, Solo, Way},
};
use proto::{
    Secret,
    upstream::{self, FailureReason},
};
use tokio::sync::oneshot;

use super::plan::{Http, Serve, Server, Sse, Transport, check_program};
use crate::{
    commands::Context,
    config::Environment,
    data_plane::start,
    failure::{Exit, Failure},
    listen,
    roles::signals::Signals,
};

/// Longest silence of a call, and longest call, unless said: whoever waits for a command that
/// takes its time has patience of their own.
const PATIENCE: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(24));
/// How long running calls may go on after a signal.
const DRAIN: Duration = Duration::from_secs(5);
/// Requests of a few clients on one machine need no more.
const THREADS: usize = 2;

/// Serves until a signal.
pub(super) async fn run(context: &Context, serve: Serve) -> Result<(), Failure> {
    let mut signals = Signals::watch()?;
    let (begun, first_look) = oneshot::channel();
    let (config, announcement) = config(context, serve, begun)?;
    let data_plane = start::start(config)?;
    let first_look = async { first_look.await.ok() };
    let ended = tokio::select! {
        looked = first_look => looked,
        () = signals.first() => None,
    };
    let ended = match ended {
        Some(Ok(())) => {
            context.output.say(&announcement(&data_plane));
            signals.first().await;
            Ok(())
        }
        Some(Err(not_begun)) => Err(failed(&not_begun)),
        None => Ok(()),
    };
    signals.second_ends_at_once(context.output);
    tokio::task::spawn_blocking(move || data_plane.stop())
        .await
        .map_err(|error| Failure::new(Exit::General, "internal", error.to_string()))?;
    ended
}

type Announcement = Box<dyn Fn(&DataPlane) -> String>;

/// What the proxy is started with, and what is said once it serves.
fn config(
    context: &Context,
    serve: Serve,
    begun: oneshot::Sender<Result<(), NotBegun>>,
) -> Result<(Config, Announcement), Failure> {
    let Serve { server, listen, streamable_http, sse, token, origins, keep_alive } = serve;
    // First, so that a taken port costs no process.
    let listeners = listen::bind_with("--port", &[listen])?;
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Exit::General, "io", format!("no directory: {error}")))?;
    let (transport, headers) = upstream(server, &context.environment, &directory)?;
    let announcement = announcement(streamable_http, sse.as_ref());
    let call = context.global.timeout.map_or(PATIENCE.0, Duration::from_secs);
    let solo = Solo {
        name: "server".parse().map_err(|_| Failure::new(Exit::General, "internal", "no name"))?,
        transport,
        headers,
        admission: token.map_or(Admission::Anybody, Admission::Bearer),
        entrances: entrances(streamable_http, sse),
        answers: match streamable_http {
            Some(Http { json: true, .. }) => Answers::Json,
            Some(Http { json: false, .. }) | None => Answers::AsFits,
        },
        begun,
    };
    let config = Config {
        data_dir: directory,
        listeners,
        ops_listeners: Vec::new(),
        peer_listeners: Vec::new(),
        advertise_address: String::new(),
        peer_address: String::new(),
        source: Source::Upstream(Box::new(solo)),
        management: Management::Off,
        stdio: Stdio::Allowed,
        allowed_hosts: Vec::new(),
        allowed_origins: origins,
        trusted_proxies: Vec::new(),
        root_path: String::new(),
        limits: Limits::default(),
        timeouts: Timeouts {
            call,
            call_total: PATIENCE.1.max(call),
            keep_alive,
            drain: DRAIN,
            ..Timeouts::default()
        },
        threads: THREADS,
    };
    Ok((config, announcement))
}

type Headers = BTreeMap<String, Secret<String>>;

fn upstream(
    server: Server,
    environment: &Environment,
    directory: &Path,
) -> Result<(upstream::Transport, Headers), Failure> {
    match server {
        Server::Command { words, mode } => {
            check_program(&words, environment.get("PATH"))?;
            let mut words = words.into_iter();
            let stdio = upstream::Stdio {
                command: words.next().unwrap_or_default(),
                args: words.collect(),
                env: environment.for_commands(),
                working_directory: directory.to_string_lossy().into_owned(),
                mode,
            };
            Ok((upstream::Transport::Stdio(stdio), Headers::new()))
        }
        Server::Url { url, transport, bearer } => {
            let transport = match transport {
                Transport::Sse => upstream::Transport::Sse { url },
                Transport::StreamableHttp => upstream::Transport::Http { url },
            };
            let header = |bearer: Secret<String>| {
                ("Authorization".to_owned(), Secret::from(format!("Bearer {}", bearer.expose())))
            };
            Ok((transport, bearer.map(header).into_iter().collect()))
        }
    }
}

fn entrances(streamable_http: Option<Http>, sse: Option<Sse>) -> Vec<Entrance> {
    let mut entrances = Vec::new();
    if let Some(Http { stateless, json: _ }) = streamable_http {
        let way = if stateless { Way::Stateless } else { Way::StreamableHttp };
        entrances.push(Entrance { path: "/mcp".to_owned(), way });
    }
    if let Some(Sse { events, messages }) = sse {
        entrances.push(Entrance { path: events, way: Way::Events });
        entrances.push(Entrance { path: messages, way: Way::Messages });
    }
    entrances
}

fn announcement(streamable_http: Option<Http>, sse: Option<&Sse>) -> Announcement {
    let events = sse.map(|sse| sse.events.clone());
    Box::new(move |data_plane| {
        let url = listen::url(data_plane.addresses());
        let mut lines = vec![format!("Lockgate {} translate", env!("CARGO_PKG_VERSION"))];
        if streamable_http.is_some() {
            lines.push(format!("  Streamable HTTP  {url}/mcp"));
        }
        if let Some(events) = &events {
            lines.push(format!("  HTTP+SSE         {url}{events}"));
        }
        lines.join("\n")
    })
}

fn failed(not_begun: &NotBegun) -> Failure {
    let (exit, code) = match not_begun.reason {
        FailureReason::Auth => (Exit::Permission, "unauthenticated"),
        FailureReason::Dns
        | FailureReason::Egress
        | FailureReason::Connect
        | FailureReason::Tls
        | FailureReason::HttpStatus
        | FailureReason::Spawn
        | FailureReason::Initialize
        | FailureReason::List
        | FailureReason::Timeout
        | FailureReason::NoProxy
        | FailureReason::Incompatible => (Exit::Unavailable, "unavailable"),
    };
    Failure::new(exit, code, not_begun.message.replace('\n', " "))
}
