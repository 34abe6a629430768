//! A Postgres of our own: from the installed package, as an unprivileged user, gone when we are.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const PATIENCE: Duration = Duration::from_mins(1);

/// Serves until its standard input ends, which it does also when we are
/// killed; then stops the server and removes its directory.
const SCRIPT: &str = r#"
set -eu
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done
if ! command -v initdb >/dev/null || ! command -v postgres >/dev/null; then
    echo "PostgreSQL is not installed: \`make test\` does it, or install the package \`postgresql\`" >&2
    exit 1
fi
dir=$(mktemp -d /tmp/lockgate-postgres.XXXXXX)
trap 'rm -rf "$dir"' EXIT
if ! initdb -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1; then
    cat "$dir/log" >&2
    exit 1
fi
postgres -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=500 \
    -c shared_buffers=16MB >>"$dir/log" 2>&1 </dev/null &
server=$!
echo "$dir"
cat >/dev/null || true
kill -INT "$server"
wait "$server" || true
"#;

/// A running server; it stops when this is dropped.
pub struct Postgres {
    folder: String,
    script: Child,
    databases: AtomicU32,
    stdin: Option<ChildStdin>,
}

impl Postgres {
    /// The server of this test process, started at first use.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SERVER: OnceLock<Result<Postgres, String>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::start().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|problem| anyhow!("{problem}"))
    }

    /// Starts a server that listens on a socket in a directory of its own.
    pub fn start() -> anyhow::Result<Self> {
        let mut script = unprivileged_shell()?
            .args(["-c", SCRIPT])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a shell as an unprivileged user")?;
        let stdin = script.stdin.take();
        let stdout = script.stdout.take().context("no output")?;
        let mut folder = String::new();
        BufReader::new(stdout).read_line(&mut folder)?;
        let folder = folder.trim().to_owned();
        if folder.is_empty() {
            let mut problem = String::new();
            script.stderr.take().context("no errors")?.read_to_string(&mut problem)?;
            script.wait()?;
            bail!("cannot start Postgres: {}", problem.trim());
        }
        Ok(Self { folder, script, databases: AtomicU32::new(0), stdin })
    }

    /// The URL of a fresh, empty database.
    pub async fn database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect().await?;
        // From `template0`, to which nobody is ever connected.
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await?;
        Ok(self.url(&name))
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder)
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let begun = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return Ok(connection),
                Err(error) if begun.elapsed() > PATIENCE => {
                    let log = std::fs::read_to_string(format!("{}/log", self.folder));
                    let log = log.unwrap_or_default();
                    return Err(error).with_context(|| format!("Postgres did not start: {log}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.script.wait().ok();
    }
}

/// Postgres refuses to run as root.
fn unprivileged_shell() -> anyhow::Result<Command> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Command::new("sh"));
    }
    let user = user_id("postgres").or_else(|| user_id("nobody"));
    let user = user.context("found neither the user `postgres` nor `nobody`")?;
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).args(["--clear-groups", "--reset-env", "sh"]);
    Ok(command)
}

fn user_id(name: &str) -> Option<String> {
    let output = Command::new("id").args(["-u", name]).output().ok()?;
    let id = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !id.is_empty()).then_some(id)
}
