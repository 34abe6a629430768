//! The curl lines of the seeds, run by curl against `lockgate up`.

use std::path::Path;
use std::process::Stdio;

use anyhow::ensure;
use tests::fixture::{self, Era};
use tests::rest_api;
use tests::world::{World, program};
use tokio::process::Command;

const PASSWORD: &str = "changeme";
const SECRET: &str = "my-test-key";

/// Runs `seeds/NAME.sh`; it gets the addresses it needs in its environment.
async fn run(name: &str) -> anyhow::Result<()> {
    let (fixture, api) =
        (fixture::start(Era::Legacy, "127.0.0.1:0").await?, rest_api::start().await?);
    let variables = [("BASIC_AUTH_PASSWORD", PASSWORD), ("JWT_SECRET_KEY", SECRET)];
    let world = World::up_with(&[], &variables).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(format!("{name}.sh"));
    let mut command = Command::new("bash");
    command
        .arg("-eu")
        .arg("-o")
        .arg("pipefail")
        .arg(script)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.env("GATEWAY", world.url()).env("LOCKGATE", program("lockgate")?);
    command.env("LOCKGATE_DATA_DIR", world.data_dir()).env("SECRET", SECRET);
    command.env("BASIC", format!("admin:{PASSWORD}"));
    command.env("API", api.url("")).env("MCP_SERVER", fixture.url());
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {said}{complaint}{}", world.process().log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn example_1_shows_the_version() -> anyhow::Result<()> {
    run("1_version").await
}

#[tokio::test(flavor = "multi_thread")]
async fn example_2_initializes_over_rest() -> anyhow::Result<()> {
    run("2_initialize").await
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_3_and_4_register_and_list_a_tool() -> anyhow::Result<()> {
    run("3_clock_tool").await
}

#[tokio::test(flavor = "multi_thread")]
async fn example_6_registers_an_mcp_server() -> anyhow::Result<()> {
    run("6_gateway").await
}

#[tokio::test(flavor = "multi_thread")]
async fn example_7_makes_a_virtual_server() -> anyhow::Result<()> {
    run("7_virtual_server").await
}

#[tokio::test(flavor = "multi_thread")]
async fn example_12_signs_a_token() -> anyhow::Result<()> {
    run("12_token").await
}
