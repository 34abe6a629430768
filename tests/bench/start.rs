//! How soon a proxy that was killed is ready again with what it has on disk, nobody there to ask.

use anyhow::ensure;
use tests::bench::case::Bound;
use tests::bench::outcome::Finding;
use tests::bench::statistics::{Spread, float};

use super::fleet;
use super::setup::admin_token;

const STARTS: usize = 11;
/// Milliseconds until it is ready.
const MOST: Bound = Bound::AtMost(300.0);
/// Megabytes with five thousand tools.
const MEMORY: Bound = Bound::AtMost(60.0);

/// Starts it with so many tools, again and again.
pub(crate) async fn run(case: &str, tools: usize) -> anyhow::Result<Vec<Finding>> {
    let (mut control, manager) = fleet::control_plane().await?;
    manager.fill(tools).await?;
    let mut proxy = control.proxy().await?;
    fleet::active_at(&manager, 1, manager.revision().await?).await?;
    // Now all is on disk.
    proxy.stop().await?;
    control.kill().await;
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        proxy.kill().await;
        times.push(proxy.start_again().await?.as_secs_f64() * 1e3);
        memory.push(float(proxy.process().resident()?) / 1e6);
    }
    let mut client = proxy.client("/mcp", &admin_token()?);
    client.initialize().await?;
    let listed = client.tool_names().await?.len();
    ensure!(listed == tools, "{listed} of {tools} tools are there");
    let finding = |what: String, values: Vec<f64>, unit, bound| {
        Finding::new(case, what, Spread::of(values).unwrap_or_default(), unit, Some(bound))
    };
    Ok(vec![
        finding(format!("from start to ready with {tools} tools on disk"), times, "ms", MOST),
        finding(format!("RSS of the data plane then, {tools} tools"), memory, "MB", MEMORY),
    ])
}
