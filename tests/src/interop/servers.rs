//! The servers of the matrix: our fixture in both eras, and what other people wrote.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Endpoint, Transport, directory, installed};
use crate::client::{eventually, http};
use crate::fixture::{self, Era, Subprotocol, start_sse, start_websocket};
use crate::world::process::Process;
use crate::world::{World, program};

/// One server of the matrix.
#[derive(Debug)]
pub struct Server {
    /// Its name in the matrix and in the gateway.
    pub name: &'static str,
    /// Under which `servers.json` says what it offers.
    kind: &'static str,
    /// How it is reached when it is an upstream.
    transport: Transport,
}

/// Every server of the matrix. `cancel` is tried where the server can say whether it heard of it,
/// which server-everything cannot: a client gives up its own call all by itself.
pub const SERVERS: [Server; 8] = [
    Server { name: "fixture-legacy", kind: "fixture-legacy", transport: Transport::Http },
    Server { name: "fixture-modern", kind: "fixture-modern", transport: Transport::Http },
    Server { name: "everything-http", kind: "everything", transport: Transport::Http },
    Server { name: "everything-sse", kind: "everything", transport: Transport::Sse },
    Server { name: "everything-stdio", kind: "everything", transport: Transport::Stdio },
    Server { name: "time", kind: "time", transport: Transport::Stdio },
    Server { name: "git", kind: "git", transport: Transport::Stdio },
    Server { name: "fastmcp", kind: "fastmcp", transport: Transport::Http },
];

impl Server {
    /// Whether it is ours.
    pub fn is_fixture(&self) -> bool {
        self.kind.starts_with("fixture")
    }
}

/// All of them, running.
pub struct Servers {
    offers: Map<String, Value>,
    urls: BTreeMap<(&'static str, Transport), String>,
    commands: BTreeMap<&'static str, Vec<String>>,
    _processes: Vec<Process>,
    _fixtures: Vec<fixture::Server>,
    _repository: TempDir,
}

impl Servers {
    /// Starts them; `legacy` is the era of the fixture that must speak the legacy one.
    pub async fn start(legacy: Era) -> anyhow::Result<Self> {
        let everything =
            installed("node_modules/@modelcontextprotocol/server-everything/dist/index.js")?;
        let python = installed(".venv/bin/python")?;
        let repository = repository().await?;
        let path = repository.path().to_str().context("a path that is not text")?;
        let offers = std::fs::read_to_string(directory().join("servers.json"))?;
        let offers = serde_json::from_str(&offers.replace("REPOSITORY", path))?;
        let (mut urls, mut commands) = (BTreeMap::new(), BTreeMap::new());
        let (mut processes, mut fixtures) = (Vec::new(), Vec::new());

        for (name, era) in [("fixture-legacy", legacy), ("fixture-modern", modern(legacy))] {
            let any = "127.0.0.1:0";
            let started = [
                (Transport::Http, fixture::start(era, any).await?),
                (Transport::Sse, start_sse(era, any).await?),
                (Transport::Ws, start_websocket(era, any, Subprotocol::Mcp).await?),
            ];
            for (transport, server) in started {
                urls.insert((name, transport), server.url());
                fixtures.push(server);
            }
            let child = program("fixture")?.display().to_string();
            let era = format!("{era:?}").to_lowercase();
            commands.insert(name, owned(&[&child, "--stdio", "--era", &era]));
        }
        let script = directory().join("server_fastmcp.py").display().to_string();
        let over = [
            ("everything-http", Transport::Http, "node", vec![&everything, "streamableHttp"]),
            ("everything-sse", Transport::Sse, "node", vec![&everything, "sse"]),
            ("fastmcp", Transport::Http, python.as_str(), vec![script.as_str()]),
        ];
        for (name, transport, program, arguments) in over {
            let (process, url) = listening(program, &arguments, transport).await?;
            urls.insert((name, transport), url);
            processes.push(process);
        }
        commands.insert("everything-stdio", owned(&["node", &everything, "stdio"]));
        let time = [&python, "-m", "mcp_server_time", "--local-timezone", "UTC"];
        commands.insert("time", owned(&time));
        commands.insert("git", owned(&[&python, "-m", "mcp_server_git"]));
        let (processes, fixtures) = (processes, fixtures);
        Ok(Self {
            offers,
            urls,
            commands,
            _processes: processes,
            _fixtures: fixtures,
            _repository: repository,
        })
    }

    /// What the server offers: feature to what it takes.
    pub fn offers(&self, server: &Server) -> anyhow::Result<&Map<String, Value>> {
        let offers = self.offers.get(server.kind).and_then(Value::as_object);
        offers.with_context(|| format!("servers.json does not know {}", server.kind))
    }

    /// The server itself, if it can be reached over `transport`.
    pub fn endpoint(
        &self,
        server: &Server,
        transport: Transport,
    ) -> anyhow::Result<Option<Endpoint>> {
        let url = self.urls.get(&(server.name, transport)).cloned();
        let piped = transport == Transport::Stdio;
        let command = self.commands.get(server.name).filter(|_| piped).cloned();
        if url.is_none() && command.is_none() {
            return Ok(None);
        }
        let features = self.offers(server)?.clone();
        let server = server.name.to_owned();
        Ok(Some(Endpoint { server, url, command, env: BTreeMap::new(), features }))
    }

    /// Makes it an upstream and a virtual server of the same name that shows it as it is.
    pub async fn register(&self, server: &Server, world: &World) -> anyhow::Result<()> {
        let endpoint = self.endpoint(server, server.transport)?.context("it has no endpoint")?;
        let mut create = owned(&["create", "upstream", server.name]);
        if let Some(url) = endpoint.url {
            create.extend([String::from("--url"), url]);
        }
        let mut words = endpoint.command.unwrap_or_default().into_iter();
        if let Some(program) = words.next() {
            create.extend([String::from("--command"), program]);
            create.extend(words.flat_map(|word| [String::from("--arg"), word]));
        }
        if server.kind == "everything" {
            // A tool of it makes resources that one session alone is shown.
            create.extend(owned(&["--catalog-scope", "principal"]));
        }
        if server.kind == "everything" && server.transport == Transport::Stdio {
            // It keeps what a client switched on, and does not know whose it is.
            create.extend(owned(&["--stdio-mode", "per-session"]));
        }
        world.ok(&create).await?;
        let name = server.name;
        world.ok(&["create", "server", name, "--upstream", name, "--naming", "bare"]).await?;
        Ok(())
    }
}

/// What the other fixture speaks.
fn modern(legacy: Era) -> Era {
    match legacy {
        Era::Dual => Era::Dual,
        Era::Legacy | Era::Modern => Era::Modern,
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A repository with one commit, for the server that reads such.
async fn repository() -> anyhow::Result<TempDir> {
    let directory = tempfile::tempdir()?;
    let script = "git init -q . && git -c user.name=interop -c user.email=interop@example.com \
                  commit -q --allow-empty -m 'a first commit'";
    let done = Command::new("sh").args(["-c", script]).current_dir(&directory).status().await?;
    ensure!(done.success(), "cannot make a repository");
    Ok(directory)
}

/// Starts a server on a port of its own, which it cannot choose itself.
async fn listening(
    program: &str,
    arguments: &[&str],
    transport: Transport,
) -> anyhow::Result<(Process, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut command = Command::new(program);
    // One takes the port from its environment, another as its last argument.
    command.args(arguments).arg(&port).env("PORT", &port).stdin(Stdio::null());
    let process = Process::spawn(command)?;
    let path = if transport == Transport::Sse { "sse" } else { "mcp" };
    let url = format!("http://127.0.0.1:{port}/{path}");
    let client = http();
    let answers = eventually("the server listens", Duration::from_mins(3), || async {
        Ok(client.get(&url).send().await.is_ok())
    });
    answers.await.with_context(|| process.log_tail())?;
    Ok((process, url))
}
