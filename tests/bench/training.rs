//! `bench --train`: some of everything that proxies do all day, for the layout of their code.

use anyhow::ensure;
use tests::bench::{CLIENT_TOOL, Session};

use super::{SLICE, Setup, Way, streams};

const STREAMING_CALLS: usize = 20;
const EVENTS: u64 = 200;
const STREAMS: usize = 100;

/// Uses Lockgate, then ends its processes as politely as their profiles need it.
pub(super) async fn run(mut setup: Setup) -> anyhow::Result<()> {
    let (url, token) = (&setup.gateway_url, &setup.token);
    let pid = setup.gateway.process().pid();
    Way::open("Lockgate", pid, (url, token, CLIENT_TOOL)).await?.run(3 * SLICE).await?;
    let mut session = Session::open(url, token, CLIENT_TOOL).await?;
    for _ in 0..STREAMING_CALLS {
        session.delays(EVENTS).await?;
    }
    streams::hold(&setup, STREAMS, &mut std::io::sink()).await?;
    for ended in [setup.gateway.stop().await?, setup.control.stop().await?] {
        ensure!(ended == 0, "a process ended with {ended}");
    }
    Ok(())
}
