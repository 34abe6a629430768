//! A control plane and proxies as separate processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{PATIENCE, lockgate, ok_on};
use crate::client::{Client, eventually, wait_until_ready};

/// One `lockgate control-plane` on a data directory of its own.
pub struct ControlPlane {
    directory: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    process: Process,
    management: String,
    sync: String,
}

impl ControlPlane {
    /// Starts one on SQLite.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments, such as `--database-url`.
    pub async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start_with_variables(arguments, &[]).await
    }

    /// Starts one with more arguments and environment variables.
    pub async fn start_with_variables(
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let arguments: Vec<String> =
            arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variables = super::owned(variables);
        let listen = ["127.0.0.1:0", "127.0.0.1:0"];
        let process = spawn(directory.path(), listen, &arguments, &variables)?;
        let (management, sync) = addresses(&process, directory.path()).await?;
        Ok(Self { directory, arguments, variables, process, management, sync })
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Where it serves gRPC and REST.
    pub fn management(&self) -> &str {
        &self.management
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it politely and gives the exit code.
    pub async fn stop(&mut self) -> anyhow::Result<i32> {
        self.process.terminate(PATIENCE).await
    }

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again on the same data directory and ports.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let (management, sync) = (authority(&self.management), authority(&self.sync));
        let listen = [management.as_str(), sync.as_str()];
        self.process = spawn(self.directory.path(), listen, &self.arguments, &self.variables)?;
        addresses(&self.process, self.directory.path()).await?;
        Ok(())
    }

    /// Runs one `lockgate` command that must succeed.
    pub async fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        ok_on(self.data_dir(), arguments).await.with_context(|| self.process.log_tail())
    }

    /// Lets one new proxy join.
    pub async fn join_token(&self) -> anyhow::Result<String> {
        self.ok(&["proxy", "join-token"]).await
    }

    /// Starts a proxy of this control plane and waits until it is ready.
    pub async fn proxy(&self) -> anyhow::Result<Proxy> {
        Proxy::join(&self.sync, &self.join_token().await?).await
    }

    /// Starts a proxy of this control plane with more arguments and waits until it is ready.
    pub async fn proxy_with(&self, arguments: &[&str]) -> anyhow::Result<Proxy> {
        Proxy::join_with(&self.sync, &self.join_token().await?, arguments).await
    }

    /// Waits until all running `proxies` have a certificate and the whole configuration.
    pub async fn settled(&self, proxies: &[Proxy]) -> anyhow::Result<()> {
        eventually("the proxies know each other", PATIENCE, || async {
            let certified = proxies.iter().all(|proxy| proxy.certificate().exists());
            let listed = self.ok(&["get", "proxies", "-o", "json"]).await?;
            let listed: Value = serde_json::from_str(&listed)?;
            let listed = listed.as_array().or_else(|| listed.get("items")?.as_array());
            let is_connected = |it: &&Value| it.get("connected") == Some(&Value::from(true));
            let connected = listed.context("no list")?.iter().filter(is_connected);
            let revision = |it: &Value| it.get("applied_revision").and_then(Value::as_u64);
            let applied: BTreeSet<_> = connected.map(revision).collect();
            let status = self.ok(&["status", "-o", "json"]).await?;
            let status: Value = serde_json::from_str(&status)?;
            let newest = status.get("revision").and_then(Value::as_u64);
            Ok(certified && applied == BTreeSet::from([newest]))
        })
        .await
    }

    /// Where proxies join.
    pub fn sync(&self) -> &str {
        &self.sync
    }
}

/// One `lockgate data-plane` on a data directory of its own.
pub struct Proxy {
    directory: TempDir,
    control: String,
    process: Process,
    url: String,
    peers: String,
}

impl Proxy {
    /// Starts one that joins with a one-time token, and waits until it is ready.
    pub async fn join(control: &str, token: &str) -> anyhow::Result<Self> {
        Self::join_with(control, token, &[]).await
    }

    /// Starts one with more arguments, which joins with a one-time token.
    async fn join_with(control: &str, token: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let proxy = Self::start(control, &[&["--join", token], arguments].concat()).await?;
        let ready = wait_until_ready(&proxy.url, PATIENCE).await;
        ready.with_context(|| proxy.process.log_tail())?;
        Ok(proxy)
    }

    /// Starts one without waiting for a configuration.
    pub async fn start(control: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let process = run(directory.path(), "127.0.0.1:0", control, arguments)?;
        let url = process.announced_url("listening on").await?;
        let peers = announced_peers(&process).await?;
        Ok(Self { directory, control: control.to_owned(), process, url, peers })
    }

    /// Where other proxies reach it, `HOST:PORT`.
    pub fn peers(&self) -> &str {
        &self.peers
    }

    /// Its id.
    pub fn id(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.data_dir().join("proxy/config/proxy.json"))?;
        let identity: Value = serde_json::from_str(&text)?;
        let id = identity.get("id").and_then(Value::as_str);
        Ok(id.context("no id in proxy.json")?.to_owned())
    }

    /// Where and with what it proves itself to other proxies, once it can.
    pub fn certificate(&self) -> PathBuf {
        self.data_dir().join("proxy/config/peer.json")
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A client of the endpoint `path`.
    pub fn client(&self, path: &str, token: &str) -> Client {
        Client::new(&format!("{}{path}", self.url), Some(token))
    }

    /// Ends it politely and gives the exit code.
    pub async fn stop(&mut self) -> anyhow::Result<i32> {
        self.process.terminate(PATIENCE).await
    }

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again on the same data directory and port; gives the time until it was ready.
    pub async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let begun = std::time::Instant::now();
        let listen = authority(&self.url);
        self.process = run(self.directory.path(), &listen, &self.control, &[])?;
        self.peers = announced_peers(&self.process).await?;
        let ready = wait_until_ready(&self.url, PATIENCE).await;
        ready.with_context(|| self.process.log_tail())?;
        Ok(begun.elapsed())
    }
}

fn authority(url: &str) -> String {
    url.split("://").last().unwrap_or_default().to_owned()
}

fn spawn(
    directory: &Path,
    [listen, sync]: [&str; 2],
    arguments: &[String],
    variables: &[(String, String)],
) -> anyhow::Result<Process> {
    let mut command = lockgate(directory)?;
    command.args(["control-plane", "--listen", listen, "--sync-listen", sync]).args(arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Process::spawn(command)
}

fn run(
    directory: &Path,
    listen: &str,
    control: &str,
    arguments: &[&str],
) -> anyhow::Result<Process> {
    let mut command = lockgate(directory)?;
    command.args(["data-plane", "--listen", listen, "--control", control]);
    if !arguments.iter().any(|argument| argument.starts_with("--allow-stdio")) {
        command.arg("--allow-stdio");
    }
    if !arguments.contains(&"--peer-listen") {
        command.args(["--peer-listen", "127.0.0.1:0"]);
    }
    command.args(arguments);
    Process::spawn(command)
}

/// What it tells of its listener for other proxies.
async fn announced_peers(process: &Process) -> anyhow::Result<String> {
    let line = process.line_with("other proxies", PATIENCE).await?;
    Ok(line.split_whitespace().last().unwrap_or_default().to_owned())
}

/// Management and sync address, as announced, once the command line finds the instance too.
async fn addresses(process: &Process, directory: &Path) -> anyhow::Result<(String, String)> {
    let management = process.announced_url("listening on").await?;
    let sync = process.announced_url("proxies join at").await?;
    super::socket_answers(directory).await.with_context(|| process.log_tail())?;
    Ok((management, sync))
}
