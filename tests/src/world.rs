//! A running Lockgate of its own: real processes, a temporary data directory, ports that the system chose.

mod fleet;
pub mod process;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::Client;
use process::Process;

pub use fleet::{ControlPlane, Proxy};

/// How long anything in a world may take to start; generous, because tests share few cores.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What one `lockgate` command said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

/// One `lockgate up` on a data directory of its own; both are gone when this is dropped.
pub struct World {
    directory: TempDir,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    process: Process,
    url: String,
}

impl World {
    /// Starts `lockgate up` on a fresh data directory and any port.
    pub async fn up() -> anyhow::Result<Self> {
        Self::up_with(&[], &[]).await
    }

    /// Starts `lockgate up` with more arguments and environment variables.
    pub async fn up_with(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let variables = owned(variables);
        let arguments: Vec<String> =
            arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (process, url) =
            start_up(directory.path(), "127.0.0.1:0", &arguments, &variables).await?;
        Ok(Self { directory, variables, arguments, process, url })
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
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

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Ends it politely and gives the exit code.
    pub async fn stop(&mut self) -> anyhow::Result<i32> {
        self.process.terminate(PATIENCE).await
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again on the same data directory and the same port.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let address = self.url.trim_start_matches("http://").to_owned();
        let (process, url) =
            start_up(self.directory.path(), &address, &self.arguments, &self.variables).await?;
        self.process = process;
        self.url = url;
        Ok(())
    }

    /// Runs one `lockgate` command against this world.
    pub async fn lockgate<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<Answer> {
        lockgate_on(self.directory.path(), arguments).await
    }

    /// Runs one command that must succeed, and gives its trimmed stdout.
    pub async fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<String> {
        ok_on(self.directory.path(), arguments).await.with_context(|| self.process.log_tail())
    }

    /// A new API token.
    pub async fn token(&self, name: &str) -> anyhow::Result<String> {
        self.ok(&["token", "create", "--name", name]).await
    }

    /// The value of a metric without labels, as the token of an administrator shows it.
    pub async fn metric(&self, admin: &str, name: &str) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.url);
        let answer = crate::client::http().get(url).bearer_auth(admin).send().await?;
        let all = answer.error_for_status()?.text().await?;
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned).with_context(|| format!("no {name} in {all}"))
    }

    /// A client of the endpoint `path`, with a new token.
    pub async fn client(&self, path: &str) -> anyhow::Result<Client> {
        let token = self.token(&format!("client-{}", rand::random::<u32>())).await?;
        Ok(Client::new(&format!("{}{path}", self.url), Some(&token)))
    }
}

/// Runs one `lockgate` command on a data directory.
pub async fn lockgate_on<S: AsRef<OsStr>>(
    directory: &Path,
    arguments: &[S],
) -> anyhow::Result<Answer> {
    let mut command = lockgate(directory)?;
    let output = command.args(arguments).output().await?;
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs one command that must succeed on a data directory, and gives its trimmed stdout.
pub async fn ok_on<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> anyhow::Result<String> {
    let answer = lockgate_on(directory, arguments).await?;
    let shown: Vec<_> =
        arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    ensure!(
        answer.code == 0,
        "`lockgate {}` ended with {}: {}",
        shown.join(" "),
        answer.code,
        answer.stderr
    );
    Ok(answer.stdout.trim().to_owned())
}

/// A `lockgate` command on a data directory, with an environment that no test shares.
pub fn lockgate(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(program("lockgate")?);
    command.arg("--data-dir").arg(directory).env_clear().env("HOME", directory);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(filter) = std::env::var_os("LOCKGATE_TEST_LOG") {
        command.env("RUST_LOG", filter);
    }
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// A program of this workspace, built beside the running test.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    for directory in own.ancestors().skip(1).take(2) {
        let candidate = directory.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("`{name}` is not built beside {}: run `cargo build --workspace --bins`", own.display())
}

async fn start_up(
    directory: &Path,
    listen: &str,
    arguments: &[String],
    variables: &[(String, String)],
) -> anyhow::Result<(Process, String)> {
    let mut command = lockgate(directory)?;
    command.args(["up", "--listen", listen]).args(arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let process = Process::spawn(command)?;
    let url = process.announced_url("listening on").await?;
    socket_answers(directory).await.with_context(|| process.log_tail())?;
    crate::client::wait_until_ready(&url, PATIENCE).await.with_context(|| process.log_tail())?;
    Ok((process, url))
}

/// Waits until the command line finds the instance; a socket file alone may be an old one.
async fn socket_answers(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("control.sock");
    crate::client::eventually("the control socket answers", PATIENCE, || async {
        Ok(tokio::net::UnixStream::connect(&path).await.is_ok())
    })
    .await
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    pairs.collect()
}
