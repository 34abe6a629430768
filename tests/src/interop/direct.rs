//! What clients and servers can do with each other when no gateway is between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CLIENTS, Cell, Client, Job, SERVERS, Server, Servers, Transport, directory, run_all};
use crate::fixture::Era;

type Features = BTreeSet<String>;

/// Who can do what, as a direct run saw it; `direct.json`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Abilities {
    /// Client, then transport: what it does before a fixture that speaks both eras, as we do.
    clients: BTreeMap<String, BTreeMap<Transport, Features>>,
    /// Server: what some client gets from it.
    servers: BTreeMap<String, Features>,
}

impl Abilities {
    fn path() -> PathBuf {
        directory().join("direct.json")
    }

    /// What the last direct run saw.
    pub fn load() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(Self::path()).context("direct.json cannot be read")?;
        serde_json::from_str(&text).context("direct.json")
    }

    /// Writes them down for runs through the gateway.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(Self::path(), text).context("direct.json cannot be written")
    }

    /// What must work between two who can both do it.
    pub(super) fn of(
        &self,
        client: &Client,
        transport: Transport,
        server: &Server,
        servers: &Servers,
    ) -> anyhow::Result<Map<String, Value>> {
        let does = self.clients.get(client.name).and_then(|does| does.get(&transport));
        let does = does.with_context(|| format!("direct.json does not know {}", client.name))?;
        let gives = self.servers.get(server.name);
        let gives = gives.with_context(|| format!("direct.json does not know {}", server.name))?;
        let mut features = servers.offers(server)?.clone();
        features.retain(|feature, _| does.contains(feature) && gives.contains(feature));
        Ok(features)
    }

    /// What neither has to do, in words.
    pub(super) fn missing(&self) -> Vec<String> {
        let all: Features = self.servers.values().flatten().cloned().collect();
        let lacks = |has: &Features| all.difference(has).cloned().collect::<Vec<_>>().join(", ");
        let clients = self.clients.iter().flat_map(|(client, transports)| {
            let lacks = move |(transport, has): (&Transport, &Features)| {
                (format!("{client} over {}", transport.name()), lacks(has))
            };
            transports.iter().map(lacks).collect::<Vec<_>>()
        });
        let servers = self.servers.iter().map(|(server, has)| (server.clone(), lacks(has)));
        let lines = clients.chain(servers).filter(|(_, lacks)| !lacks.is_empty());
        lines.map(|(who, lacks)| format!("{who}: {lacks}")).collect()
    }
}

/// Runs every client before every server without a gateway; also gives what failed.
pub async fn direct() -> anyhow::Result<(Abilities, Vec<Cell>)> {
    let mut abilities = Abilities::default();
    let mut failed = Vec::new();
    for cell in run_before(Era::Dual, Server::is_fixture).await? {
        let client = abilities.clients.entry(cell.client.to_owned()).or_default();
        let does = client.entry(cell.transport).or_default();
        note(cell, does, &mut failed);
    }
    for cell in run_before(Era::Legacy, |_| true).await? {
        let gives = abilities.servers.entry(cell.line.server.clone()).or_default();
        note(cell, gives, &mut failed);
    }
    Ok((abilities, failed))
}

fn note(cell: Cell, features: &mut Features, failed: &mut Vec<Cell>) {
    match cell.line.error {
        None => {
            features.insert(cell.line.feature);
        }
        Some(_) => failed.push(cell),
    }
}

async fn run_before(legacy: Era, wanted: impl Fn(&Server) -> bool) -> anyhow::Result<Vec<Cell>> {
    let servers = Servers::start(legacy).await?;
    let mut jobs = Vec::new();
    for client in &CLIENTS {
        for transport in Transport::ALL {
            let mut endpoints = Vec::new();
            for server in SERVERS.iter().filter(|server| wanted(server)) {
                endpoints.extend(servers.endpoint(server, transport)?);
            }
            let headers = BTreeMap::new();
            jobs.push((client, Job { transport, mode: client.mode, headers, endpoints }));
        }
    }
    run_all(jobs).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is at least tried through the gateway: a run that sees less must not be written down
    /// without a word.
    #[test]
    fn the_last_direct_run_saw_all_that_clients_and_servers_can_do() {
        let seen = Abilities::load().unwrap();
        let count = |client: &str, transport| {
            let does = seen.clients.get(client).and_then(|does| does.get(&transport));
            does.map_or(0, BTreeSet::len)
        };
        let least = [
            (Transport::Http, [11, 11, 11, 11, 11, 11, 11, 11, 9, 4]),
            (Transport::Sse, [11, 11, 11, 11, 11, 11, 0, 0, 11, 4]),
            (Transport::Ws, [11, 0, 0, 11, 0, 0, 0, 0, 0, 0]),
            (Transport::Stdio, [11, 11, 11, 11, 11, 11, 11, 11, 9, 4]),
        ];
        let clients = [
            "ts1",
            "ts2-legacy",
            "ts2-auto",
            "py1",
            "py2-legacy",
            "py2-auto",
            "rmcp-legacy",
            "rmcp-auto",
            "fastmcp",
            "inspector",
        ];
        for (transport, least) in least {
            for (client, least) in clients.into_iter().zip(least) {
                let count = count(client, transport);
                assert!(count >= least, "{client} over {}: {count} of {least}", transport.name());
            }
        }
        assert_eq!(seen.clients.len(), clients.len());
        for (server, least) in [
            ("fixture-legacy", 11),
            ("fixture-modern", 11),
            ("everything-http", 10),
            ("everything-sse", 10),
            ("everything-stdio", 10),
            ("fastmcp", 9),
            ("git", 2),
            ("time", 2),
        ] {
            let count = seen.servers.get(server).map_or(0, BTreeSet::len);
            assert!(count >= least, "{server}: {count} of {least}");
        }
    }
}
