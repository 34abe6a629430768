//! `bench --profile FILE`: what the data plane does while small calls come, as perf saw it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::bench::case::{Case, LOCKGATE, Work};
use tokio::process::Command;

use super::runner::{Way, is_served};
use super::setup::Setup;

/// Before it is looked at.
const WARM_UP: Duration = Duration::from_secs(3);
const SECONDS: u64 = 15;
/// Calls go on for so long that all of that time is full of them.
const LOAD: Duration = Duration::from_secs(SECONDS + 2);
/// Looks in a second, and bytes of the stack that are kept of each: frames are found later, by
/// what the program says of its calls, since it keeps no frame pointers.
const LOOKS: &str = "199";
const STACKS: &str = "dwarf,16384";

/// Writes what `perf script` reads.
pub(crate) async fn run(mut setup: Setup, file: &Path) -> anyhow::Result<()> {
    let case = Case::new("profile", Work::Call);
    setup.prepare(&case).await?;
    is_served(&setup, &case).await?;
    let (base, pids) = setup.way(LOCKGATE, &case);
    let address = case.address(LOCKGATE, base, &setup.token);
    let (mut way, _) = Way::open(LOCKGATE, &case, (address, pids)).await?;
    way.run(&case, WARM_UP).await?;
    let (pid, seconds) = (setup.gateway.process().pid().to_string(), SECONDS.to_string());
    let mut perf = Command::new("perf");
    // No hardware counters are needed, which virtual machines often lack.
    perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", LOOKS]);
    perf.args(["--call-graph", STACKS, "--pid", &pid, "--output"]).arg(file);
    let perf = perf.args(["--", "sleep", &seconds]).kill_on_drop(true).spawn();
    let mut perf = perf.context("perf is missing (Debian: linux-perf)")?;
    let slice = way.run(&case, LOAD).await?;
    let ended = perf.wait().await?;
    ensure!(ended.success(), "perf ended with {ended}");
    ensure!(slice.failures.is_empty(), "calls failed: {:?}", slice.failures.first());
    Ok(())
}
