//! `bench --train`: some of everything that proxies do all day, for the layout of their code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tests::bench::case::{Case, LOCKGATE, Work};
use tests::bench::{Address, CLIENT_TOOL, Session, cases};

use super::idle::Kind;
use super::runner::{Way, is_served};
use super::setup::Setup;
use super::streams;

/// Of small calls in each era.
const SMALL_CALLS: Duration = Duration::from_secs(4);
/// Of each other case of the gate.
const OTHERS: Duration = Duration::from_secs(1);
const STREAMING_CALLS: usize = 20;
const EVENTS: u64 = 200;
const STREAMS: usize = 100;

/// Uses Lockgate, then ends its processes as politely as their profiles need it.
pub(crate) async fn run(mut setup: Setup) -> anyhow::Result<()> {
    for case in cases::gate() {
        let is_small_call = matches!(case.work, Work::Call) && case.answer == 0;
        work(&mut setup, &case, if is_small_call { SMALL_CALLS } else { OTHERS }).await?;
    }
    let address = Address::calls(&setup.gateway_url(), &setup.token, CLIENT_TOOL);
    let mut session = Session::open(&Arc::new(address)).await?;
    for _ in 0..STREAMING_CALLS {
        session.delays(EVENTS).await?;
    }
    streams::hold(&setup, STREAMS, &Kind::ALL).await?;
    for ended in [setup.gateway.stop().await?, setup.control.stop().await?] {
        ensure!(ended == 0, "a process ended with {ended}");
    }
    Ok(())
}

async fn work(setup: &mut Setup, case: &Case, length: Duration) -> anyhow::Result<()> {
    setup.prepare(case).await?;
    is_served(setup, case).await?;
    let (base, pids) = setup.way(LOCKGATE, case);
    let address = case.address(LOCKGATE, base, &setup.token);
    let (mut way, _) = Way::open(LOCKGATE, case, (address, pids)).await?;
    let slice = way.run(case, length).await?;
    ensure!(slice.failures.is_empty(), "{}: {:?}", case.name, slice.failures);
    Ok(())
}
