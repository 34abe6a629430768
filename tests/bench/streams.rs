//! What idle streams cost, how soon listeners hear, and what a proxy adds to each event of a call.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tests::bench::case::{BARE, Bound, DIRECT, LOCKGATE};
use tests::bench::outcome::Finding;
use tests::bench::statistics::float;
use tests::bench::usage::raise_file_limit;
use tests::bench::{Address, CLIENT_TOOL, Session, UPSTREAM_TOOL};
use tokio::time::Instant;

use super::idle::{Kind, Stream};
use super::setup::Setup;

/// Idle streams, unless told otherwise.
pub(crate) const STREAMS: usize = 5_000;
/// How many of them hear of changed tools.
const LISTENERS: usize = 1_000;
/// Streams that are opened at the same time.
const BATCH: usize = 50;
const CALLS: usize = 12;
const EVENTS: u64 = 200;
const NAME: &str = "streams";

/// Measures all of it, with so many idle ones of each kind.
pub(crate) async fn run(count: usize) -> anyhow::Result<Vec<Finding>> {
    let mut findings = delays(&setup(0).await?).await?;
    for kind in Kind::ALL {
        // Each at a fresh proxy, which has nothing left of others to give it.
        findings.extend(idle(count, &[kind]).await?);
    }
    Ok(findings)
}

/// Measures what so many idle ones of some kinds cost.
pub(crate) async fn idle(count: usize, kinds: &[Kind]) -> anyhow::Result<Vec<Finding>> {
    hold(&setup(kinds.len() * count).await?, count, kinds).await
}

/// A proxy has a file open for each stream, this program too; it inherits the limit.
async fn setup(streams: usize) -> anyhow::Result<Setup> {
    raise_file_limit(streams as u64 + 1000)?;
    Setup::of_calls().await
}

/// Opens so many streams of each kind, and lets some of them hear of a change.
pub(crate) async fn hold(
    setup: &Setup,
    count: usize,
    kinds: &[Kind],
) -> anyhow::Result<Vec<Finding>> {
    let listeners = LISTENERS.min(count);
    let (mut findings, mut streams) = (Vec::new(), Vec::new());
    for kind in kinds.iter().copied() {
        let before = setup.gateway.process().resident()?;
        let all = streams.len() + count;
        while streams.len() < all {
            let end = (streams.len() + BATCH).min(all);
            let batch = (streams.len()..end).map(|number| {
                let hears = number < listeners;
                let filter = if hears { r#"{"toolsListChanged":true}"# } else { "{}" };
                Stream::open(setup, kind, filter, number)
            });
            let opened = try_join_all(batch).await.with_context(|| kind.name())?;
            streams.extend(opened);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = setup.gateway.process().resident()?;
        let each = float(after.saturating_sub(before)) / 1024.0 / float(count as u64);
        let what = format!("RSS of each of {count} idle: {}", kind.name());
        let target = Some(Bound::AtMost(kind.most()));
        findings.push(Finding::plain(NAME, &what, each, "KiB", target));
        if matches!(kind, Kind::Listen) {
            // Before others are there who would hear of it too.
            let (heard, told) = changes(setup, streams).await?;
            streams = heard;
            findings.extend(told);
        }
    }
    Ok(findings)
}

/// Lets a list change, and waits until everybody has heard.
async fn changes(
    setup: &Setup,
    mut streams: Vec<Stream>,
) -> anyhow::Result<(Vec<Stream>, Vec<Finding>)> {
    let begun = Instant::now();
    let others = streams.split_off(LISTENERS.min(streams.len()));
    let hearing = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            stream.until("tools/list_changed").await?;
            anyhow::Ok((stream, Instant::now()))
        })
    });
    let hearing: Vec<_> = hearing.collect();
    setup.control.ok(&["create", "tool", "another", "--url", "http://127.0.0.1:9/"]).await?;
    let (mut streams, mut heard) = (Vec::new(), Vec::new());
    for hearing in hearing {
        let (stream, at) = tokio::time::timeout(Duration::from_secs(30), hearing).await???;
        streams.push(stream);
        heard.push(at);
    }
    let (first, last) = heard.iter().min().zip(heard.iter().max()).context("nobody listens")?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let finding = |what: String, time| Finding::plain(NAME, &what, milliseconds(time), "ms", None);
    let findings = vec![
        finding(
            format!("list_changed to {} listeners: first", heard.len()),
            first.duration_since(begun),
        ),
        finding("list_changed: last after the first".to_owned(), last.duration_since(*first)),
    ];
    streams.extend(others);
    Ok((streams, findings))
}

/// Times the events of calls on each way, in turns.
async fn delays(setup: &Setup) -> anyhow::Result<Vec<Finding>> {
    let mut ways = Vec::new();
    for (name, url, tool) in [
        (DIRECT, setup.upstream_url(), UPSTREAM_TOOL),
        (BARE, setup.bare_url(), CLIENT_TOOL),
        (LOCKGATE, setup.gateway_url(), CLIENT_TOOL),
    ] {
        let address = Arc::new(Address::calls(&url, &setup.token, tool));
        let session = Session::open(&address).await;
        ways.push((name, session.with_context(|| format!("to {name}"))?, Histogram::new(3)?));
    }
    for _ in 0..CALLS {
        for (name, session, delays) in &mut ways {
            delays.add(session.delays(EVENTS).await.with_context(|| format!("to {name}"))?)?;
        }
        ways.rotate_left(1);
    }
    let at = |name: &str, part: f64| {
        let way = ways.iter().find(|(found, ..)| *found == name);
        way.map_or(0.0, |(.., delays): &(_, _, Histogram<u64>)| {
            float(delays.value_at_quantile(part))
        })
    };
    let ratio = at(LOCKGATE, 0.5) / at(BARE, 0.5).max(1.0);
    let what = "delay of an event at p50 against the bare proxy";
    let mut findings = vec![Finding::plain(NAME, what, ratio, "x", Some(Bound::AtMost(2.0)))];
    for name in [DIRECT, BARE, LOCKGATE] {
        for (quantile, part) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("delay of an event at {quantile}, {name}");
            findings.push(Finding::plain(NAME, &what, at(name, part), "µs", None));
        }
    }
    Ok(findings)
}
