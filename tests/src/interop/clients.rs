//! The clients of the matrix: drivers in their own languages, and the Rust SDK in this process.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::{Job, Line, directory, installed, rust_sdk};

/// One process may take this long for all its servers.
const PATIENCE: Duration = Duration::from_mins(10);

/// What runs a client.
#[derive(Clone, Copy, Debug)]
enum Driver {
    Node(&'static str),
    Python { virtual_environment: &'static str, script: &'static str },
    Rust,
}

/// An SDK in one of its modes.
#[derive(Debug)]
pub struct Client {
    /// Its name in the matrix.
    pub name: &'static str,
    /// The lifecycle it is told to use.
    pub mode: &'static str,
    driver: Driver,
}

const PYTHON_1: Driver = Driver::Python { virtual_environment: "python1/.venv", script: "py1.py" };
const PYTHON_2: Driver = Driver::Python { virtual_environment: ".venv", script: "py2.py" };
const FASTMCP: Driver =
    Driver::Python { virtual_environment: ".venv", script: "fastmcp_client.py" };

/// Every client of the matrix.
pub const CLIENTS: [Client; 10] = [
    Client { name: "ts1", mode: "legacy", driver: Driver::Node("ts1.mjs") },
    Client { name: "ts2-legacy", mode: "legacy", driver: Driver::Node("ts2.mjs") },
    Client { name: "ts2-auto", mode: "auto", driver: Driver::Node("ts2.mjs") },
    Client { name: "py1", mode: "legacy", driver: PYTHON_1 },
    Client { name: "py2-legacy", mode: "legacy", driver: PYTHON_2 },
    Client { name: "py2-auto", mode: "auto", driver: PYTHON_2 },
    Client { name: "fastmcp", mode: "auto", driver: FASTMCP },
    Client { name: "rmcp-legacy", mode: "legacy", driver: Driver::Rust },
    Client { name: "rmcp-auto", mode: "auto", driver: Driver::Rust },
    Client { name: "inspector", mode: "auto", driver: Driver::Node("inspector.mjs") },
];

impl Client {
    /// Lets it do a job; fails if the driver itself is broken or not installed.
    pub(super) async fn run(&self, job: &Job) -> anyhow::Result<Vec<Line>> {
        let mut command = match self.driver {
            Driver::Rust => return Ok(rust_sdk::run(job).await),
            Driver::Node(script) => {
                installed("node_modules/@modelcontextprotocol/client/package.json")?;
                let mut command = Command::new("node");
                // Node 20 hides its WebSocket; newer ones take the flag and do not need it.
                command.args(["--experimental-websocket", "--no-warnings"]);
                command.arg(format!("drivers/{script}"));
                command
            }
            Driver::Python { virtual_environment, script } => {
                let python = installed(&format!("{virtual_environment}/bin/python"))?;
                let mut command = Command::new(python);
                command.arg(format!("drivers/{script}"));
                command
            }
        };
        command.arg(serde_json::to_string(job)?).current_dir(directory());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output =
            tokio::time::timeout(PATIENCE, command.output()).await.context("too slow")??;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Result<Vec<Line>, _> = printed.lines().map(serde_json::from_str).collect();
        let lines = lines.with_context(|| format!("{printed}\n{complaint}"))?;
        let wanted: usize = job.endpoints.iter().map(|endpoint| endpoint.features.len()).sum();
        ensure!(lines.len() == wanted, "{} of {wanted} answers:\n{complaint}", lines.len());
        Ok(lines)
    }
}
