//! `make bench ARGS=--streams`: what idle streams cost, how soon listeners hear, and what a
//! proxy adds to each event of a call.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tests::bench::{CLIENT_TOOL, Session, UPSTREAM_TOOL};
use tokio::time::Instant;

use super::idle::{Kind, Stream};
use super::{Setup, float, mib};

/// Idle streams, unless told otherwise.
pub(super) const STREAMS: usize = 5_000;
/// How many of them hear of changed tools.
const LISTENERS: usize = 1_000;
/// Streams that are opened at the same time.
const BATCH: usize = 50;
const TARGET_KIB: f64 = 40.0;
const CALLS: usize = 12;
const EVENTS: u64 = 200;

/// Measures and prints.
pub(super) async fn run(setup: &Setup, count: usize) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    delays(setup, &mut out).await?;
    hold(setup, count, &mut out).await
}

/// Opens so many streams of each kind, and lets some of them hear of a change.
pub(super) async fn hold(setup: &Setup, count: usize, out: &mut impl Write) -> anyhow::Result<()> {
    raise_file_limit();
    let listeners = LISTENERS.min(count);
    let mut streams = Vec::with_capacity(Kind::ALL.len() * count);
    for kind in Kind::ALL {
        let before = setup.gateway.process().resident()?;
        let all = streams.len() + count;
        while streams.len() < all {
            let end = (streams.len() + BATCH).min(all);
            let batch = (streams.len()..end).map(|number| {
                let hears = number < listeners;
                Stream::open(setup, kind, if hears { r#"{"toolsListChanged":true}"# } else { "{}" })
            });
            let opened = try_join_all(batch).await.with_context(|| kind.name())?;
            streams.extend(opened);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = setup.gateway.process().resident()?;
        #[expect(clippy::cast_precision_loss, reason = "a count of streams is far below 2^52")]
        let each = float(after.saturating_sub(before)) / 1024.0 / count as f64;
        let verdict = if each <= TARGET_KIB { "held" } else { "MISSED" };
        writeln!(
            out,
            "{count} idle streams, {}: RSS {} before, {} with them: {each:.1} KiB each (target <= {TARGET_KIB} KiB: {verdict})",
            kind.name(),
            mib(before),
            mib(after)
        )?;
        if matches!(kind, Kind::Listen) {
            // Before others are there who would hear of it too.
            changes(setup, streams.drain(..listeners).collect(), out).await?;
        }
    }
    Ok(())
}

/// Lets a list change, and waits until everybody has heard.
async fn changes(setup: &Setup, streams: Vec<Stream>, out: &mut impl Write) -> anyhow::Result<()> {
    let (begun, listeners) = (Instant::now(), streams.len());
    let hearing = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            stream.until("tools/list_changed").await?;
            anyhow::Ok(Instant::now())
        })
    });
    let hearing: Vec<_> = hearing.collect();
    setup.control.ok(&["create", "tool", "another", "--url", "http://127.0.0.1:9/"]).await?;
    let committed = begun.elapsed();
    let mut heard = Vec::with_capacity(listeners);
    for hearing in hearing {
        heard.push(tokio::time::timeout(Duration::from_secs(30), hearing).await???);
    }
    let (first, last) = (heard.iter().min(), heard.iter().max());
    let (first, last) = first.zip(last).context("nobody listens")?;
    writeln!(
        out,
        "list_changed to {listeners} listeners: the command took {committed:.0?}, the first heard after {:.0?}, the last {:.0?} later",
        first.duration_since(begun),
        last.duration_since(*first)
    )?;
    Ok(())
}

/// Times the events of calls on each way, in turns.
async fn delays(setup: &Setup, out: &mut impl Write) -> anyhow::Result<()> {
    let mut ways = Vec::new();
    for (name, url, tool) in [
        ("direct", &setup.upstream_url, UPSTREAM_TOOL),
        ("bare proxy", &setup.bare_url, CLIENT_TOOL),
        ("Lockgate", &setup.gateway_url, CLIENT_TOOL),
    ] {
        let session = Session::open(url, &setup.token, tool).await;
        ways.push((name, session.with_context(|| format!("to {name}"))?, Histogram::new(3)?));
    }
    for _ in 0..CALLS {
        for (name, session, delays) in &mut ways {
            delays.add(session.delays(EVENTS).await.with_context(|| format!("to {name}"))?)?;
        }
        ways.rotate_left(1);
    }
    let p50 = |name: &str| {
        let way = ways.iter().find(|(found, ..)| *found == name);
        way.map_or(0, |(.., delays): &(_, _, Histogram<u64>)| delays.value_at_quantile(0.5))
    };
    let ratio = float(p50("Lockgate")) / float(p50("bare proxy").max(1));
    let verdict = if ratio <= 2.0 { "held" } else { "MISSED" };
    writeln!(
        out,
        "delay per event at p50 against the bare proxy: {ratio:.2} x (target <= 2.00 x: {verdict})\n"
    )?;
    writeln!(out, "| way | p50 µs per event | p99 µs per event |\n|---|---|---|")?;
    for (name, _, delays) in &ways {
        let (p50, p99) = (delays.value_at_quantile(0.5), delays.value_at_quantile(0.99));
        writeln!(out, "| {name} | {p50} | {p99} |")?;
    }
    Ok(())
}

/// Each stream takes a descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer the run says so itself.
    setrlimit(Resource::Nofile, limit).ok();
}
