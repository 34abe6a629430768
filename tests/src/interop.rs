//! The interop matrix: clients of other people, on every transport, before servers of other people.

mod clients;
mod direct;
mod report;
mod rust_sdk;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fixture::Era;
use crate::world::World;

pub use clients::{CLIENTS, Client};
pub use direct::{Abilities, direct};
pub use report::{Gaps, Report};
pub use servers::{SERVERS, Server, Servers};

/// Clients that run at once; each is a process, as is each server.
const AT_ONCE: usize = 3;

/// How a client and what it connects to talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE of 2024-11-05.
    Sse,
    /// WebSocket.
    Ws,
    /// Through `lockgate connect`, or a command.
    Stdio,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http, Self::Sse, Self::Ws, Self::Stdio];

    /// Its name in jobs and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Ws => "ws",
            Self::Stdio => "stdio",
        }
    }
}

/// One place to connect to, and what to try there.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    /// Which server it leads to.
    pub server: String,
    /// Where, unless it is a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Program and arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Feature to what it takes, as in `servers.json`.
    pub features: Map<String, Value>,
}

/// What one client does in one process.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    /// How it talks.
    pub transport: Transport,
    /// Which lifecycle the client shall use, where it has several.
    pub mode: &'static str,
    /// Headers of every request.
    pub headers: BTreeMap<String, String>,
    /// Where, one after another.
    pub endpoints: Vec<Endpoint>,
}

/// What became of one feature.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// The server of the endpoint.
    pub server: String,
    /// The feature.
    pub feature: String,
    /// Why not, if it failed.
    pub error: Option<String>,
}

/// One feature of one server with one client on one transport.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Name of the client.
    pub client: &'static str,
    /// How it talked.
    pub transport: Transport,
    /// What became of it.
    pub line: Line,
}

/// Where drivers, files and installed packages are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// A file that `make deps-test` installs.
fn installed(path: &str) -> anyhow::Result<String> {
    let file = directory().join(path);
    ensure!(file.exists(), "{} is not installed: `make deps-test` installs it", file.display());
    Ok(file.display().to_string())
}

/// Runs jobs, a few at once.
async fn run_all(jobs: Vec<(&'static Client, Job)>) -> anyhow::Result<Vec<Cell>> {
    let runs = jobs.into_iter().map(|(client, job)| async move {
        let lines = client.run(&job).await;
        let lines =
            lines.with_context(|| format!("{} over {}", client.name, job.transport.name()))?;
        let cell = |line| Cell { client: client.name, transport: job.transport, line };
        anyhow::Ok(lines.into_iter().map(cell).collect::<Vec<_>>())
    });
    let mut cells = Vec::new();
    let mut running = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        cells.extend(done?);
    }
    Ok(cells)
}

/// Which part of the matrix runs.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// Every client on every transport before our fixture, in both eras.
    Fixture,
    /// One client before every other server.
    Others,
}

impl Part {
    fn has(self, client: &Client, transport: Transport, server: &Server) -> bool {
        match self {
            Self::Whole => true,
            Self::Fixture => server.is_fixture(),
            Self::Others => {
                !server.is_fixture() && client.name == "ts1" && transport == Transport::Http
            }
        }
    }
}

/// Runs clients through a gateway before the servers, with what both can do directly.
pub async fn through_gateway(part: Part) -> anyhow::Result<Report> {
    let (abilities, gaps) = (Abilities::load()?, Gaps::load()?);
    let servers = Servers::start(Era::Legacy).await?;
    let world = World::up().await?;
    for server in &SERVERS {
        servers.register(server, &world).await?;
    }
    let mut jobs = Vec::new();
    for client in &CLIENTS {
        for transport in Transport::ALL {
            // A principal of its own: what a modern client leaves behind belongs to it.
            let name = format!("{}-{}", client.name, transport.name());
            let token = ["token", "create", "--name", &name, "--subject", &name];
            let token = world.ok(&token).await?;
            let mut endpoints = Vec::new();
            for server in SERVERS.iter().filter(|server| part.has(client, transport, server)) {
                let mut features = abilities.of(client, transport, server, &servers)?;
                // Only a run of the whole waits for what is known not to come.
                features.retain(|feature, _| {
                    let place = [client.name, transport.name(), server.name, feature];
                    matches!(part, Part::Whole) || !gaps.has(place)
                });
                if !features.is_empty() {
                    endpoints.push(gateway_endpoint(&world, &token, transport, server, features)?);
                }
            }
            let authorization = ("authorization".to_owned(), format!("Bearer {token}"));
            let headers = [authorization].into_iter().collect();
            if !endpoints.is_empty() {
                jobs.push((client, Job { transport, mode: client.mode, headers, endpoints }));
            }
        }
    }
    // What one of two unknown tools of a shared command asks is refused, since nobody can tell
    // which: the first client goes alone, and the command's tools are known by it.
    let others = jobs.split_off(jobs.len().min(1));
    let mut cells = run_all(jobs).await.with_context(|| world.process().log_tail())?;
    cells.extend(run_all(others).await.with_context(|| world.process().log_tail())?);
    Ok(Report { cells, abilities, gaps })
}

fn gateway_endpoint(
    world: &World,
    token: &str,
    transport: Transport,
    server: &Server,
    features: Map<String, Value>,
) -> anyhow::Result<Endpoint> {
    let base = format!("{}/servers/{}", world.url(), server.name);
    let (mut url, mut command, mut env) = (None, None, BTreeMap::new());
    match transport {
        Transport::Http => url = Some(format!("{base}/mcp")),
        Transport::Sse => url = Some(format!("{base}/sse")),
        Transport::Ws => url = Some(format!("{base}/ws").replacen("http", "ws", 1)),
        Transport::Stdio => {
            let lockgate = crate::world::program("lockgate")?.display().to_string();
            let url = format!("{base}/mcp");
            command = Some(vec![lockgate, "connect".to_owned(), "--url".to_owned(), url]);
            env.insert("MCP_AUTH".to_owned(), token.to_owned());
        }
    }
    Ok(Endpoint { server: server.name.to_owned(), url, command, env, features })
}
