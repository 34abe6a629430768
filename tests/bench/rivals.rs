//! Other gateways, started as their documents say, in front of the same upstream.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;
use tests::bench::case::{BARE, Case, Work};
use tests::bench::cases::{AGENTGATEWAY, CONTEXTFORGE};
use tests::bench::client::Session;
use tests::bench::message::{Message, UPSTREAM_TOOL};
use tests::bench::usage::cpu_times;
use tests::client::{eventually, http};
use tests::world::process::Process;
use tokio::process::Command;

use super::runner::Addressed;

/// Starting may mean a database of 117 migrations and four Python processes.
const PATIENCE: Duration = Duration::from_mins(5);
const WORKERS: &str = "4";
/// Strong enough for it; the database is gone with the run.
const SECRETS: [&str; 3] = [
    "Bench-0ne-secret-of-a-run-that-ends-soon!x9Q",
    "Bench-tw0-secret-of-a-run-that-ends-soon!y7W",
    "Bench-thr33-Passw0rd!z5",
];
const ADMIN: &str = "admin@example.com";

/// One that runs.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    process: Process,
    base: String,
    path: &'static str,
    tool: &'static str,
    token: String,
    _directory: TempDir,
}

impl Rival {
    /// ContextForge of a virtual environment: four workers, SQLite, JWT; what would keep calls or this
    /// machine's addresses out is off, as are its admin pages and plugins.
    pub(crate) async fn contextforge(venv: &Path, upstream: &str) -> anyhow::Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        let program = std::path::absolute(venv.join("bin/mcpgateway"))?;
        let mut command = Command::new(&program);
        command.current_dir(directory.path()).env_clear().env("HOME", directory.path());
        command.env("PATH", "/usr/bin:/bin").args(["--host", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--workers", WORKERS]);
        // On a busy machine its workers are killed and started anew without this.
        command.args(["--timeout-worker-healthcheck", "120", "--no-access-log"]);
        let database = format!("sqlite:///{}/mcp.db", directory.path().display());
        let [signing, sealing, password] = SECRETS;
        command.envs([
            ("JWT_SECRET_KEY", signing),
            ("AUTH_ENCRYPTION_SECRET", sealing),
            ("BASIC_AUTH_PASSWORD", password),
            ("PLATFORM_ADMIN_PASSWORD", password),
            ("DEFAULT_USER_PASSWORD", password),
            ("PLATFORM_ADMIN_EMAIL", ADMIN),
            ("DATABASE_URL", &database),
            ("PASSWORD_CHANGE_ENFORCEMENT_ENABLED", "false"),
            ("ADMIN_REQUIRE_PASSWORD_CHANGE_ON_BOOTSTRAP", "false"),
            ("RATE_LIMITING_ENABLED", "false"),
            ("SSRF_ALLOW_LOCALHOST", "true"),
            ("SSRF_ALLOW_PRIVATE_NETWORKS", "true"),
            ("MCPGATEWAY_UI_ENABLED", "false"),
            ("PLUGINS_ENABLED", "false"),
            ("LOG_LEVEL", "ERROR"),
        ]);
        let process = Process::spawn(command).with_context(|| program.display().to_string())?;
        let rival = Self {
            name: CONTEXTFORGE,
            process,
            base: format!("http://127.0.0.1:{port}"),
            path: "/mcp/",
            tool: "weather-get-forecast",
            token: contextforge_token(signing)?,
            _directory: directory,
        };
        rival.answers("/health").await?;
        rival.rests().await?;
        let gateway = json!({ "name": "weather", "url": upstream, "transport": "STREAMABLEHTTP" });
        let request = http().post(format!("{}/gateways", rival.base)).bearer_auth(&rival.token);
        let answer = request.json(&gateway).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "registration: {status} {body}");
        rival.once_ready().await
    }

    /// The given agentgateway, without any policy.
    pub(crate) async fn agentgateway(program: &Path, upstream: &str) -> anyhow::Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        let file = directory.path().join("config.yaml");
        let config = format!(
            "config:\n  adminAddr: 127.0.0.1:0\n  statsAddr: 127.0.0.1:0\n  readinessAddr: 127.0.0.1:0\n\
             binds:\n- port: {port}\n  listeners:\n  - routes:\n    - matches:\n      - path:\n          exact: /mcp\n      \
             backends:\n      - mcp:\n          targets:\n          - name: weather\n            mcp:\n              host: {upstream}\n"
        );
        std::fs::write(&file, config)?;
        let mut command = Command::new(program);
        command.arg("-f").arg(&file).current_dir(directory.path());
        let process = Process::spawn(command).with_context(|| program.display().to_string())?;
        let rival = Self {
            name: AGENTGATEWAY,
            process,
            base: format!("http://127.0.0.1:{port}"),
            path: "/mcp",
            // One target alone keeps its names.
            tool: UPSTREAM_TOOL,
            token: "none".to_owned(),
            _directory: directory,
        };
        rival.once_ready().await
    }

    /// It and all processes that it started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        [vec![self.process.pid()], self.process.descendants()].concat()
    }

    /// How its clients address it: an answer is right if it says the right thing.
    pub(crate) fn way(&self, case: &Case) -> Addressed {
        let mut address = case.address(BARE, &self.base, &self.token);
        address.url = format!("{}{}", self.base, self.path);
        address.messages = vec![Message::call(case.era, self.tool, case.body, case.answer)];
        (self.name, address, self.pids())
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate(PATIENCE).await?;
        Ok(())
    }

    /// Waits until a call is answered.
    async fn once_ready(self) -> anyhow::Result<Self> {
        let (_, address, _) = self.way(&Case::new("ready", Work::Call));
        let address = Arc::new(address);
        let what = format!("{} answers a call", self.name);
        let ready = eventually(&what, PATIENCE, || async {
            Session::open(&address).await?.call().await.map(|()| true)
        });
        ready.await.with_context(|| self.process.log_tail())?;
        self.rests().await?;
        Ok(self)
    }

    async fn answers(&self, path: &str) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.base);
        let http = http();
        let answers = eventually(&url, PATIENCE, || async {
            Ok(http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()))
        });
        answers.await.with_context(|| self.process.log_tail())
    }

    /// Waits until all its processes have started: then they have nothing to do.
    async fn rests(&self) -> anyhow::Result<()> {
        eventually(&format!("{} comes to rest", self.name), PATIENCE, || async {
            let pids = self.pids();
            let before = cpu_times(&pids)?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(cpu_times(&pids)?.saturating_sub(before) < Duration::from_millis(300))
        })
        .await
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What its own tool for development signs.
fn contextforge_token(secret: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "username": ADMIN,
        "sub": ADMIN,
        "iat": now,
        "exp": now + 86_400,
        "iss": "mcpgateway",
        "aud": "mcpgateway-api",
        "jti": format!("{:032x}", rand::random::<u128>()),
        "env": "development",
        "user": { "email": ADMIN, "full_name": "bench", "is_admin": true, "auth_provider": "cli" },
        "teams": null,
    });
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}
