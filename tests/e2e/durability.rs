//! Kill -9 of the control plane during writes: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use proto::wire;
use proto::wire::registry_client::RegistryClient;
use tests::postgres::Postgres;
use tests::world::ControlPlane;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

const WRITERS: usize = 4;

fn rounds(usual: u64) -> u64 {
    if std::env::var_os("LOCKGATE_SOAK").is_some() { 200 } else { usual }
}

#[derive(Clone)]
struct Registry {
    client: RegistryClient<Channel>,
    authorization: MetadataValue<tonic::metadata::Ascii>,
}

impl Registry {
    fn at(address: &str, token: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(address.to_owned())?.connect_lazy();
        let authorization = format!("Bearer {token}").parse()?;
        Ok(Self { client: RegistryClient::new(channel), authorization })
    }

    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request.set_timeout(Duration::from_secs(10));
        request
    }

    async fn create(&mut self, name: &str, request_id: &str) -> Result<u64, tonic::Status> {
        let rest = wire::RestBinding {
            url: "http://127.0.0.1:9/".to_owned(),
            method: "POST".to_owned(),
            ..wire::RestBinding::default()
        };
        let tool = wire::Tool { name: name.to_owned(), rest: Some(rest), ..wire::Tool::default() };
        let create = wire::CreateToolRequest {
            tool: Some(tool),
            request_id: request_id.to_owned(),
            validate_only: false,
        };
        let created = self.client.create_tool(self.signed(create)).await?;
        Ok(created.into_inner().resource_version)
    }

    async fn names(&mut self) -> anyhow::Result<Vec<String>> {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let list =
                wire::ListToolsRequest { page_size: 1000, page_token, upstream: String::new() };
            let page = self.client.list_tools(self.signed(list)).await?.into_inner();
            names.extend(page.tools.into_iter().map(|tool| tool.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(names);
            }
        }
    }
}

/// What one writer was told.
#[derive(Default)]
struct History {
    acknowledged: BTreeMap<String, u64>,
    unknown: Vec<(String, String)>,
}

async fn write_until_it_dies(mut registry: Registry, label: String) -> History {
    let mut history = History::default();
    for number in 0.. {
        let name = format!("{label}-{number}");
        let request_id = uuid();
        match registry.create(&name, &request_id).await {
            Ok(revision) => {
                history.acknowledged.insert(name, revision);
            }
            Err(status) if status.code() == Code::AlreadyExists => (),
            Err(_) => {
                history.unknown.push((name, request_id));
                break;
            }
        }
    }
    history
}

/// A random UUID, version 4.
fn uuid() -> String {
    let (a, b, c): (u32, u16, u64) = (rand::random(), rand::random(), rand::random());
    format!("{a:08x}-{b:04x}-4{:03x}-8{:03x}-{:012x}", c & 0xfff, (c >> 12) & 0xfff, c >> 16)
}

async fn kill_rounds(mut control: ControlPlane, rounds: u64) -> anyhow::Result<()> {
    let token = control.ok(&["token", "create", "--name", "writer", "--role", "admin"]).await?;
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds {
        let registry = Registry::at(control.management(), &token)?;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write_until_it_dies(registry.clone(), format!("r{round}w{writer}")))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rand::random_range(30..400))).await;
        control.kill().await;
        let mut unknown = Vec::new();
        for writer in writers {
            let mut history = writer.await?;
            acknowledged.append(&mut history.acknowledged);
            unknown.append(&mut history.unknown);
        }
        control.start_again().await.with_context(|| format!("start after round {round}"))?;
        let mut registry = Registry::at(control.management(), &token)?;
        for (name, request_id) in unknown {
            // The same request again is the same object, whether or not it was stored before.
            acknowledged.insert(name.clone(), registry.create(&name, &request_id).await?);
        }
        let mut names = registry.names().await?;
        let stored = names.len();
        names.sort_unstable();
        names.dedup();
        ensure!(names.len() == stored, "round {round}: an object exists twice");
        for name in acknowledged.keys() {
            ensure!(names.binary_search(name).is_ok(), "round {round}: `{name}` is lost");
        }
    }
    let mut revisions: Vec<_> = acknowledged.values().collect();
    revisions.sort_unstable();
    revisions.dedup();
    ensure!(revisions.len() == acknowledged.len(), "two writes have one revision");
    ensure!(acknowledged.len() as u64 > rounds, "hardly anything was written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_on_sqlite() -> anyhow::Result<()> {
    kill_rounds(ControlPlane::start().await?, rounds(20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_on_postgres() -> anyhow::Result<()> {
    let database = Postgres::shared()?.database().await?;
    let control = ControlPlane::start_with(&["--database-url", &database]).await?;
    kill_rounds(control, rounds(10)).await
}
