//! The programs that are measured, running: upstream, bare proxy, control plane, data plane.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};
use tempfile::TempDir;
use tests::bench::case::{BARE, Case, DIRECT, LOCKGATE, Work};
use tests::bench::message::REST_TOOL;
use tests::bench::{Claims, SECRET};
use tests::world::process::Process;
use tests::world::{ControlPlane, Proxy, program};
use tokio::process::Command;

/// Everything that runs.
pub(crate) struct Setup {
    upstream: Process,
    upstream_base: String,
    bare: Process,
    bare_base: String,
    /// A bare proxy that answers a list itself, with the file that it read.
    lister: Option<(Process, String, TempDir)>,
    pub(crate) control: ControlPlane,
    pub(crate) gateway: Proxy,
    pub(crate) token: String,
    /// RSS of Lockgate's data plane before it had anything to do.
    pub(crate) idle: u64,
    /// What was registered.
    registered: BTreeSet<String>,
}

impl Setup {
    /// Starts it, and lets the data plane come to rest for so long.
    pub(crate) async fn start(rest: Duration) -> anyhow::Result<Self> {
        let upstream = Process::spawn(Command::new(program("bench_upstream")?))?;
        let upstream_base = upstream.announced_url("listening on").await?;
        let (bare, bare_base) = bare_proxy(&[&upstream_base]).await?;
        let secret = [("JWT_SECRET_KEY", SECRET)];
        let control = ControlPlane::start_with_variables(&[], &secret).await?;
        let gateway = control.proxy().await?;
        tokio::time::sleep(rest).await;
        let idle = gateway.process().resident()?;
        let token = admin_token()?;
        Ok(Self {
            upstream,
            upstream_base,
            bare,
            bare_base,
            lister: None,
            control,
            gateway,
            token,
            idle,
            registered: BTreeSet::new(),
        })
    }

    /// Starts it with what small calls need.
    pub(crate) async fn of_calls() -> anyhow::Result<Self> {
        let mut setup = Self::start(Duration::from_secs(2)).await?;
        setup.register("weather", "/mcp").await?;
        Ok(setup)
    }

    async fn register(&mut self, upstream: &str, path: &str) -> anyhow::Result<()> {
        if self.registered.insert(upstream.to_owned()) {
            let url = format!("{}{path}", self.upstream_base);
            self.control.ok(&["create", "upstream", upstream, "--url", &url]).await?;
        }
        Ok(())
    }

    /// Registers what a case needs.
    pub(crate) async fn prepare(&mut self, case: &Case) -> anyhow::Result<()> {
        let (upstreams, server) = (case.upstreams(), case.server());
        for (name, path) in &upstreams {
            self.register(name, path).await?;
        }
        if !self.registered.insert(format!("server {server}")) {
            return Ok(());
        }
        let mut create = vec!["create", "server", &server];
        for (name, _) in &upstreams {
            create.extend(["--upstream", name]);
        }
        if case.work == Work::Rest {
            let url = format!("{}/rest", self.upstream_base);
            let schema = r#"{"type":"object","properties":{"city":{"type":"string"},"unit":{"enum":["C","F"]},"note":{"type":"string"}},"required":["city"]}"#;
            let tool = REST_TOOL;
            let arguments = ["create", "tool", tool, "--url", &url, "--input-schema", schema];
            if self.registered.insert("tool".to_owned()) {
                self.control.ok(&arguments).await?;
            }
            create.extend(["--tool", tool]);
        }
        self.control.ok(&create).await?;
        Ok(())
    }

    /// Lets the bare way answer `tools/list` with these bytes after the id.
    pub(crate) async fn answer_list(&mut self, list: &[u8]) -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("list");
        std::fs::write(&file, list)?;
        let file = file.to_str().context("a path that is no text")?;
        let (process, base) = bare_proxy(&[&self.upstream_base, file]).await?;
        self.lister = Some((process, base, directory));
        Ok(())
    }

    /// Where a way begins, and whose CPU time and memory are its.
    pub(crate) fn way(&self, name: &str, case: &Case) -> (&str, Vec<u32>) {
        let lister = self.lister.as_ref().filter(|_| matches!(case.work, Work::List(_)));
        match (name, lister) {
            (DIRECT, _) => (&self.upstream_base, vec![self.upstream.pid()]),
            (BARE, Some((process, base, _))) => (base, vec![process.pid()]),
            (BARE, None) => (&self.bare_base, vec![self.bare.pid()]),
            (LOCKGATE, _) => (self.gateway.url(), vec![self.gateway.process().pid()]),
            _ => ("", Vec::new()),
        }
    }

    /// Where small calls go on each way that is no case.
    pub(crate) fn upstream_url(&self) -> String {
        format!("{}/mcp", self.upstream_base)
    }

    pub(crate) fn bare_url(&self) -> String {
        format!("{}/mcp", self.bare_base)
    }

    pub(crate) fn gateway_url(&self) -> String {
        format!("{}/mcp", self.gateway.url())
    }
}

async fn bare_proxy(arguments: &[&str]) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(program("bench_bare_proxy")?);
    command.args(arguments);
    let process = Process::spawn(command)?;
    let base = process.announced_url("listening on").await?;
    Ok((process, base))
}

/// What the administrator calls with, where [`SECRET`] is the secret.
pub(crate) fn admin_token() -> anyhow::Result<String> {
    Ok(jsonwebtoken::encode(
        &Header::default(),
        &Claims { username: "admin".to_owned(), exp: in_a_day()? },
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )?)
}

fn in_a_day() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 86_400)
}
