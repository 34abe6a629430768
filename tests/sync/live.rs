//! Both ends of the protocol as they run: over TLS, with a store below and a disk on the other side.

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use control_plane::{Config, ControlPlane};
use data_plane::{
    config::{Control, Stdio},
    control::Addresses,
    egress::Egress,
    reports::Reports,
    snapshot::{current::Current, disk::Disk, stream::Snapshot},
    upstream::{AllowStdio, Limits, Upstreams},
};
use proto::{
    Position, Secret,
    resource::Resource,
    wire::{
        self, identity_client::IdentityClient, operations_client::OperationsClient,
        registry_client::RegistryClient,
    },
};
use tempfile::TempDir;
use tests::fixture;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

/// A control plane on a port that it keeps between lives.
struct Central {
    dir: TempDir,
    port: u16,
    running: Option<(Arc<ControlPlane>, CancellationToken, JoinHandle<()>)>,
}

impl Central {
    async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut central = Self { dir: tempfile::tempdir().unwrap(), port, running: None };
        central.again().await;
        central
    }

    async fn again(&mut self) {
        let config = Config::new(self.dir.path());
        let control_plane = Arc::new(ControlPlane::start(config).await.unwrap());
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let stop = CancellationToken::new();
        let serving = {
            let (control_plane, stop) = (Arc::clone(&control_plane), stop.clone());
            tokio::spawn(async move {
                control_plane.serve_sync_tls(vec![listener], stop.cancelled_owned()).await.unwrap();
            })
        };
        self.running = Some((control_plane, stop, serving));
    }

    async fn stop(&mut self) {
        let (control_plane, stop, serving) = self.running.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
        Arc::into_inner(control_plane).unwrap().shutdown().await;
    }

    fn router(&self) -> axum::Router {
        self.running.as_ref().unwrap().0.local()
    }

    async fn join_token(&self) -> Secret<String> {
        let request = wire::CreateJoinTokenRequest { lifetime_seconds: 0 };
        let answer = OperationsClient::new(self.router()).create_join_token(request).await;
        answer.unwrap().into_inner().join_token.into()
    }

    async fn create_tool(&self, name: &str) -> u64 {
        let tool = wire::Tool {
            name: name.to_owned(),
            input_schema: r#"{"type":"object"}"#.to_owned(),
            rest: Some(wire::RestBinding {
                url: "http://127.0.0.1:9/x".to_owned(),
                method: "POST".to_owned(),
                ..wire::RestBinding::default()
            }),
            ..wire::Tool::default()
        };
        let request = wire::CreateToolRequest { tool: Some(tool), ..Default::default() };
        let answer = RegistryClient::new(self.router()).create_tool(request).await;
        answer.unwrap().into_inner().resource_version
    }

    async fn delete_tool(&self, name: &str) {
        let request = wire::DeleteToolRequest { name: name.to_owned(), ..Default::default() };
        RegistryClient::new(self.router()).delete_tool(request).await.unwrap();
    }

    async fn create_token(&self, name: &str) {
        let request = wire::CreateTokenRequest {
            name: name.to_owned(),
            role: wire::Role::Caller.into(),
            ..Default::default()
        };
        IdentityClient::new(self.router()).create_token(request).await.unwrap();
    }

    async fn revoke_token(&self, name: &str) -> u64 {
        let request = wire::RevokeTokenRequest { name: name.to_owned(), ..Default::default() };
        let answer = IdentityClient::new(self.router()).revoke_token(request).await;
        answer.unwrap().into_inner().revision
    }

    async fn create_upstream(&self, name: &str, url: &str) {
        let http = wire::HttpTransport { url: url.to_owned() };
        let upstream = wire::Upstream {
            name: name.to_owned(),
            transport: Some(wire::upstream::Transport::Http(http)),
            ..wire::Upstream::default()
        };
        let request =
            wire::CreateUpstreamRequest { upstream: Some(upstream), ..Default::default() };
        RegistryClient::new(self.router()).create_upstream(request).await.unwrap();
    }

    async fn upstream(&self, name: &str) -> wire::UpstreamStatus {
        let request = wire::GetUpstreamRequest { name: name.to_owned() };
        let answer = RegistryClient::new(self.router()).get_upstream(request).await;
        answer.unwrap().into_inner().status.unwrap()
    }

    /// Waits for a phase of an upstream.
    async fn phase(&self, name: &str, phase: wire::UpstreamPhase) -> wire::UpstreamStatus {
        let reached = async {
            loop {
                let status = self.upstream(name).await;
                if status.phase() == phase {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, reached).await.expect("the phase is reached")
    }

    async fn proxies(&self) -> Vec<wire::Proxy> {
        let request = wire::ListProxiesRequest::default();
        let answer = OperationsClient::new(self.router()).list_proxies(request).await;
        answer.unwrap().into_inner().proxies
    }
}

/// The configuration half of a proxy.
struct Edge {
    current: Arc<Current>,
    id: String,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Edge {
    fn start(dir: &Path, central: &Central, join_token: Option<Secret<String>>) -> Self {
        let upstreams =
            Upstreams::new(Egress::new(), AllowStdio::No, dir.to_owned(), Limits::default());
        let reconciled = Arc::clone(&upstreams);
        let current = Arc::new(Current::new(move |table| reconciled.reconcile(table)));
        let snapshot = Snapshot::open(dir, Arc::clone(&current), 0).unwrap();
        let address = format!("https://127.0.0.1:{}", central.port).parse().unwrap();
        let control = Control::Remote { address, join_token };
        let link = snapshot.link(control, Addresses::default());
        let (id, stop) = (snapshot.identity().id.clone(), CancellationToken::new());
        let reports = Reports {
            link: link.clone(),
            current: Arc::clone(&current),
            upstreams,
            ended: Arc::default(),
        };
        tokio::spawn(reports.run(stop.clone()));
        let running = tokio::spawn(snapshot.run(link, Stdio::Refused, stop.clone()));
        Self { current, id, stop, running }
    }

    async fn reach(&self, revision: u64) -> Position {
        let mut watch = self.current.watch();
        let reached = watch.wait_for(|it| it.as_ref().is_some_and(|it| it.revision >= revision));
        timeout(SOON, reached).await.expect("the revision arrives").unwrap().clone().unwrap()
    }

    fn has(&self, tool: &str) -> bool {
        self.current.load().is_some_and(|table| table.everything().tool(tool).is_some())
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

fn tokens_on_disk(dir: &Path) -> usize {
    let (_, content) = Disk::open(dir).unwrap();
    let content = content.unwrap();
    content.resources().filter(|it| matches!(it, Resource::Token(_))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_joins_converges_and_lives_without_its_control_plane() {
    let (mut central, dir) = (Central::start().await, tempfile::tempdir().unwrap());
    let edge = Edge::start(dir.path(), &central, Some(central.join_token().await));
    edge.reach(central.create_tool("first").await).await;
    assert!(edge.has("first"));
    let listed = central.proxies().await;
    assert!(listed[0].connected && listed[0].id == edge.id, "{listed:?}");
    central.stop().await;
    assert!(edge.has("first"), "what was known stays");
    edge.stop().await;
    // Neither control plane nor join token: the disk is enough.
    let edge = Edge::start(dir.path(), &central, None);
    assert!(edge.has("first"));
    central.again().await;
    let revision = central.create_tool("second").await;
    let position = edge.reach(revision).await;
    assert!(edge.has("second"));
    // A full build on a fresh proxy gives what increments gave on the old one.
    let other = tempfile::tempdir().unwrap();
    let fresh = Edge::start(other.path(), &central, Some(central.join_token().await));
    assert_eq!(fresh.reach(revision).await, position);
    assert_eq!(central.proxies().await.len(), 2);
    fresh.stop().await;
    edge.stop().await;
    central.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_gone_from_the_disk_before_anybody_can_crash() {
    let (mut central, dir) = (Central::start().await, tempfile::tempdir().unwrap());
    let edge = Edge::start(dir.path(), &central, Some(central.join_token().await));
    central.create_token("laptop").await;
    central.create_token("kept").await;
    let revision = central.revoke_token("laptop").await;
    edge.reach(revision).await;
    let acknowledged = async {
        while central.proxies().await[0].applied_revision < revision {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, acknowledged).await.unwrap();
    // A crash: nothing is flushed after this line.
    edge.running.abort();
    assert!(edge.running.await.is_err());
    let reopened = async {
        while Disk::open(dir.path()).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, reopened).await.unwrap();
    assert_eq!(tokens_on_disk(dir.path()), 1);
    central.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_with_another_certificate_gets_nothing() {
    let (mut central, mut other) = (Central::start().await, Central::start().await);
    let dir = tempfile::tempdir().unwrap();
    let edge = Edge::start(dir.path(), &central, Some(other.join_token().await));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(edge.current.load().is_none() && central.proxies().await.is_empty());
    edge.stop().await;
    central.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_equal_a_full_build_over_many_writes() {
    let (mut central, dir) = (Central::start().await, tempfile::tempdir().unwrap());
    let edge = Edge::start(dir.path(), &central, Some(central.join_token().await));
    let mut last = 0;
    for round in 0..40u32 {
        last = central.create_tool(&format!("tool_{round}")).await;
        if round % 3 == 0 {
            central.delete_tool(&format!("tool_{round}")).await;
            last = central.create_tool(&format!("again_{round}")).await;
        }
    }
    let followed = edge.reach(last).await;
    central.stop().await;
    central.again().await;
    let other = tempfile::tempdir().unwrap();
    let fresh = Edge::start(other.path(), &central, Some(central.join_token().await));
    let built = fresh.reach(last).await;
    assert_eq!(followed.root_hash, built.root_hash);
    fresh.stop().await;
    edge.stop().await;
    central.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_proxy_reads_a_catalog_and_its_tools_come_back_as_configuration() {
    let (mut central, dir) = (Central::start().await, tempfile::tempdir().unwrap());
    let edge = Edge::start(dir.path(), &central, Some(central.join_token().await));
    let fixture = fixture::start(fixture::Era::Legacy, "127.0.0.1:0").await.unwrap();
    central.create_upstream("real", &fixture.url()).await;
    let status = central.phase("real", wire::UpstreamPhase::Ready).await;
    assert!(status.tool_count > 0 && status.discovery_generation == 1, "{status:?}");
    let mut watch = edge.current.watch();
    timeout(SOON, watch.wait_for(|_| edge.has("real-echo"))).await.unwrap().unwrap();
    central.create_upstream("dead", "http://127.0.0.1:9/mcp").await;
    let status = central.phase("dead", wire::UpstreamPhase::Failed).await;
    assert_eq!(status.reason(), wire::FailureReason::Connect, "{status:?}");
    edge.stop().await;
    central.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_proxy_an_upstream_fails_for_that_and_is_read_when_one_connects() {
    let mut central = Central::start().await;
    let fixture = fixture::start(fixture::Era::Modern, "127.0.0.1:0").await.unwrap();
    central.create_upstream("real", &fixture.url()).await;
    let status = central.phase("real", wire::UpstreamPhase::Failed).await;
    assert_eq!(status.reason(), wire::FailureReason::NoProxy, "{status:?}");
    let dir = tempfile::tempdir().unwrap();
    let edge = Edge::start(dir.path(), &central, Some(central.join_token().await));
    central.phase("real", wire::UpstreamPhase::Ready).await;
    edge.stop().await;
    central.stop().await;
}
