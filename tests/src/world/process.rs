//! One child process: its log as it grows, its signals, its certain end.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::PATIENCE;

const TAIL_LINES: usize = 40;
/// How long the last lines of a process that has ended may take to be read.
const LAST_LINES: Duration = Duration::from_secs(5);

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    pid: u32,
    log: watch::Receiver<Arc<Vec<String>>>,
}

impl Process {
    /// Starts it and follows what it writes on stdout and stderr.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the process")?;
        let pid = child.id().context("the process is already gone")?;
        let (lines, log) = watch::channel(Arc::default());
        let lines = Arc::new(lines);
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(follow(stdout, Arc::clone(&lines)));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, lines));
        }
        Ok(Self { child, pid, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// The end of what it has written, for error messages.
    pub fn log_tail(&self) -> String {
        let log = Arc::clone(&self.log.borrow());
        let tail = log.iter().skip(log.len().saturating_sub(TAIL_LINES));
        format!("log of process {}:\n{}", self.pid, tail.cloned().collect::<Vec<_>>().join("\n"))
    }

    /// Waits for the first line that contains `text`.
    pub async fn line_with(&self, text: &str, within: Duration) -> anyhow::Result<String> {
        let mut log = self.log.clone();
        let found = async {
            loop {
                let lines = Arc::clone(&log.borrow_and_update());
                if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                    return Some(line.clone());
                }
                log.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(within, found).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(anyhow!("it ended before it wrote `{text}`; {}", self.log_tail())),
            Err(_) => Err(anyhow!("it did not write `{text}` in {within:?}; {}", self.log_tail())),
        }
    }

    /// The URL in the first line that contains `text`.
    pub async fn announced_url(&self, text: &str) -> anyhow::Result<String> {
        let line = self.line_with(text, PATIENCE).await?;
        let start = line.find("http").with_context(|| format!("no URL in `{line}`"))?;
        let url = line.get(start..).unwrap_or_default();
        let end = url.find(|c: char| c.is_whitespace() || c == ',' || c == '"' || c == '\u{1b}');
        Ok(url.get(..end.unwrap_or(url.len())).unwrap_or_default().trim_end_matches('/').to_owned())
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill(&mut self) {
        // It may have ended by itself, which is what the caller wants.
        self.child.kill().await.ok();
    }

    /// Sends SIGTERM and gives the exit code.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<i32> {
        self.signal(Signal::TERM)?;
        self.ended(within).await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no such process")?;
        rustix::process::kill_process(pid, signal).context("cannot send the signal")
    }

    /// Waits for its end, with all that it has written, and gives the exit code; -1 if a signal
    /// ended it.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<i32> {
        let status = tokio::time::timeout(within, self.child.wait()).await;
        let status = status
            .map_err(|_| anyhow!("still running after {within:?}; {}", self.log_tail()))??;
        // The senders go with the end of what they follow. A child that it left behind may hold
        // that open, so there is an end to it.
        let last = async { while self.log.changed().await.is_ok() {} };
        tokio::time::timeout(LAST_LINES, last).await.ok();
        Ok(status.code().unwrap_or(-1))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kilobytes.context("no VmRSS in /proc")? * 1024)
    }

    /// The processes that this one started and their descendants, those still running.
    pub fn descendants(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parents = vec![self.pid];
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                found.push(child);
                parents.push(child);
            }
        }
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&self.log_tail());
        }
        // Already ended is as good.
        self.child.start_kill().ok();
    }
}

#[expect(clippy::print_stderr, reason = "a failing test must show the log; libtest captures it")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Whether a process still runs (a zombie does not).
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Waits until none of `pids` runs.
pub async fn all_gone(pids: &[u32], within: Duration) -> anyhow::Result<()> {
    let gone = async {
        while pids.iter().any(|pid| is_running(*pid)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let left = || pids.iter().filter(|pid| is_running(**pid)).collect::<Vec<_>>();
    tokio::time::timeout(within, gone).await.map_err(|_| anyhow!("still running: {:?}", left()))
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

async fn follow(stream: impl AsyncRead + Unpin, log: Arc<watch::Sender<Arc<Vec<String>>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.send_modify(|log| Arc::make_mut(log).push(line));
    }
}
