//! Starts and ends child processes: all of them from one thread that lives as long as the process.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, so children may not
//! be forked by worker threads that come and go.

use std::{
    ffi::OsString,
    fmt, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use proto::Secret;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
    runtime::{Builder, Handle},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    room::{Place, Room},
    stderr,
};
use crate::lines::{Line, Lines};

/// How long a child gets after its input was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Variables of ours that a child inherits; secrets of the gateway are not among them.
const INHERITED: [&str; 22] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "USER",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CACHE",
    "npm_config_cache",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "UV_CACHE_DIR",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_PYTHON_INSTALL_DIR",
    "UV_TOOL_DIR",
    "PIP_INDEX_URL",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The upstream's name, for the log.
    pub(crate) upstream: String,
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    /// In addition to what is inherited.
    pub(crate) variables: Vec<(String, Secret<String>)>,
    pub(crate) directory: PathBuf,
    /// Longest line, in bytes.
    pub(crate) line_max: usize,
}

/// Who takes what a child says. Called from the spawner thread, so it must not wait.
pub(crate) trait Listener: Send + Sync + 'static {
    fn line(&self, line: Bytes);
    /// The child is gone; nothing more will come.
    fn ended(&self, end: Ended);
}

/// How a child came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub how: String,
    /// Its last words on stderr, which may hold secrets; empty if it said nothing.
    pub said: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { how, said } = self;
        formatter.write_str(how)?;
        if said.is_empty() { Ok(()) } else { write!(formatter, "; it said: {said}") }
    }
}

/// A running child. Dropping it ends the child and all of its process group.
#[derive(Debug)]
pub(crate) struct Running {
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Spawner {
    handle: Handle,
    children: TaskTracker,
    stop: CancellationToken,
    /// For the children of all upstreams.
    pub(crate) room: Room,
}

impl Spawner {
    /// Starts the thread, for at most so many processes at a time.
    pub(crate) fn start(places_max: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let children = TaskTracker::new();
        let stop = CancellationToken::new();
        let (tracker, stopped) = (children.clone(), stop.clone());
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            runtime.block_on(async {
                stopped.cancelled().await;
                tracker.close();
                tracker.wait().await;
            });
        })?;
        Ok(Self { handle, children, stop, room: Room::new(places_max) })
    }

    /// The runtime of the thread; what runs there must not block.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether the children are to end, so that no other may begin.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends all children and waits until they are gone.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.children.close();
        self.children.wait().await;
    }

    /// Starts a child whose input is fed from `input`, and which has `places` until it is gone.
    /// Must run on [`Self::handle`].
    pub(crate) fn spawn<L: Listener>(
        &self,
        program: &Program,
        input: mpsc::Receiver<Bytes>,
        listener: Arc<L>,
        places: [Place; 2],
    ) -> io::Result<Running> {
        let mut child = command(program).spawn()?;
        let (stop, deaf) = (self.stop.child_token(), CancellationToken::new());
        let tail = Arc::new(Mutex::new(String::new()));
        let mut pumps = TaskTracker::new();
        if let Some(stdin) = child.stdin.take() {
            pumps.spawn_on(feed(stdin, input, (stop.clone(), deaf.clone())), &self.handle);
        }
        if let Some(stderr) = child.stderr.take() {
            let upstream = program.upstream.clone();
            pumps.spawn_on(stderr::log(stderr, upstream, Arc::clone(&tail)), &self.handle);
        }
        let overlong = CancellationToken::new();
        if let Some(stdout) = child.stdout.take() {
            let (listener, overlong, limit) =
                (Arc::clone(&listener), overlong.clone(), program.line_max);
            let reading = async move {
                let mut lines = Lines::new(stdout, limit);
                while let Some(line) = lines.next().await {
                    match line {
                        Line::Whole(line) => listener.line(line),
                        Line::TooLong { limit: _ } => return overlong.cancel(),
                    }
                }
            };
            pumps.spawn_on(reading, &self.handle);
        }
        let line_max = program.line_max;
        let watched = Watched { child, stop: stop.clone(), deaf, overlong, line_max, places };
        let watching = async move {
            let how = watched.watch(&mut pumps).await;
            let said = std::mem::take(&mut *tail.lock());
            listener.ended(Ended { how, said });
        };
        self.children.spawn_on(watching, &self.handle);
        Ok(Running { stop })
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.command);
    command
        .args(&program.args)
        .current_dir(&program.directory)
        .env_clear()
        .envs(inherited())
        .envs(program.variables.iter().map(|(name, value)| (name, value.expose())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    die_with_us(&mut command);
    command
}

fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| INHERITED.contains(&name)))
}

/// Lets the kernel end the child when this process dies without a chance to do it.
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    let parent = std::process::id();
    #[expect(
        unsafe_code,
        reason = "pre_exec is the only way to a parent-death signal; the closure makes two \
                  async-signal-safe system calls and touches no memory but its own"
    )]
    // SAFETY: prctl and getppid are async-signal-safe, and nothing is allocated after fork.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have died between fork and prctl.
            if u32::try_from(libc::getppid()).ok() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Elsewhere a child notices only that its input ends.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

/// Writes lines until told to stop, then closes the input.
async fn feed(
    mut stdin: ChildStdin,
    mut input: mpsc::Receiver<Bytes>,
    (stop, deaf): (CancellationToken, CancellationToken),
) {
    let writing = async {
        while let Some(line) = input.recv().await {
            let mut line = BytesMut::from(&*line);
            line.extend_from_slice(b"\n");
            // A child that reads no more is of no use, if it has not ended already.
            if stdin.write_all(&line).await.is_err() {
                return deaf.cancel();
            }
        }
    };
    tokio::select! {
        () = writing => (),
        () = stop.cancelled() => (),
    }
}

struct Watched {
    child: Child,
    stop: CancellationToken,
    /// It reads no more: it has ended, or shall.
    deaf: CancellationToken,
    overlong: CancellationToken,
    line_max: usize,
    /// Free for others when the process is gone.
    places: [Place; 2],
}

impl Watched {
    /// Waits for the end, or brings it about; then nothing of the process group is left.
    async fn watch(mut self, pumps: &mut TaskTracker) -> String {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let reason = tokio::select! {
            status = self.child.wait() => ended_as(status),
            () = self.deaf.cancelled() => {
                self.stop.cancel();
                ended_as(self.end(group).await)
            }
            () = self.stop.cancelled() => {
                self.ended(group).await;
                "it was stopped".to_owned()
            }
            () = self.overlong.cancelled() => {
                self.stop.cancel();
                self.ended(group).await;
                format!("a line was longer than {} bytes", self.line_max)
            }
        };
        self.stop.cancel();
        signal(group, Signal::KILL);
        drop(self.places);
        pumps.close();
        // A process that left the group may hold the pipes open for ever.
        drop(tokio::time::timeout(GRACE, pumps.wait()).await);
        reason
    }

    /// Closed input, SIGTERM, SIGKILL: each if the one before did not help.
    async fn end(&mut self, group: Option<Pid>) -> io::Result<ExitStatus> {
        if let Ok(ended) = tokio::time::timeout(GRACE, self.child.wait()).await {
            return ended;
        }
        signal(group, Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(GRACE, self.child.wait()).await {
            return ended;
        }
        signal(group, Signal::KILL);
        self.child.wait().await
    }

    /// The same, where it does not matter how it ended.
    async fn ended(&mut self, group: Option<Pid>) {
        if let Err(error) = self.end(group).await {
            tracing::warn!(%error, "a child could not be waited for");
        }
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    let Some(group) = group else { return };
    // No such group means that all of it is gone already.
    kill_process_group(group, signal).ok();
}

fn ended_as(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it could not be waited for: {error}"),
    }
}

#[cfg(test)]
mod tests;
