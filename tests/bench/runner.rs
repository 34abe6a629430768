//! Runs one case: slices of all its ways in turns, the order rotating, every answer checked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::Value;
use tests::bench::case::{BARE, Case, DIRECT, LOCKGATE, Work};
use tests::bench::client::{Check, Speech};
use tests::bench::load::{Client, Slice, slice};
use tests::bench::message::{self, Era, FIRST_ID};
use tests::bench::outcome::{CaseOutcome, Round, WayOutcome};
use tests::bench::statistics::float;
use tests::bench::usage::{Memory, cpu_times, forget_peak, memory, own_cpu_time};
use tests::bench::{Address, Session};
use tests::client::eventually;
use tests::world::PATIENCE;

use super::changes::Changes;
use super::setup::Setup;

/// Connections that are opened at the same time.
const BATCH: usize = 64;

/// A way of another program: its name, how it is addressed, its processes.
pub(crate) type Addressed = (&'static str, Address, Vec<u32>);

/// How long it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) slice: Duration,
    pub(crate) rounds: usize,
}

/// One way to the upstream, with its clients.
pub(crate) struct Way {
    name: String,
    pids: Vec<u32>,
    address: Arc<Address>,
    clients: Vec<Client>,
    rounds: Vec<Round>,
    memory_before: Memory,
    failure: Option<String>,
    changes: u64,
}

impl Way {
    /// Learns what is answered, checks that it is right, and opens all sessions.
    pub(crate) async fn open(
        name: &str,
        case: &Case,
        (mut address, pids): (Address, Vec<u32>),
    ) -> anyhow::Result<(Self, usize)> {
        let mut bytes = case.body + message::answer(case.era, case.answer).len();
        if [DIRECT, BARE, LOCKGATE].contains(&name) {
            let learnt = learn(case, &address).await.with_context(|| format!("to {name}"))?;
            bytes = case.body + message::head(FIRST_ID).len() + learnt.len();
            address.check = Check::Exactly(learnt);
        }
        let mut way = Self {
            name: name.to_owned(),
            pids,
            address: Arc::new(address),
            clients: Vec::new(),
            rounds: Vec::new(),
            memory_before: Memory::default(),
            failure: None,
            changes: 0,
        };
        way.fill(case).await?;
        forget_peak(&way.pids)?;
        way.memory_before = memory(&way.pids)?;
        Ok((way, bytes))
    }

    /// Opens the sessions that are missing.
    async fn fill(&mut self, case: &Case) -> anyhow::Result<()> {
        while self.clients.len() < case.sessions {
            let missing = (case.sessions - self.clients.len()).min(BATCH);
            if case.work == Work::Cycle {
                let client = || Client::Comes(Arc::clone(&self.address));
                self.clients.extend((0..missing).map(|_| client()));
                continue;
            }
            let opening = (0..missing).map(|_| Session::open(&self.address));
            let opened = try_join_all(opening).await;
            let opened = opened.with_context(|| format!("to {}", self.name))?;
            let stays = opened.into_iter().map(|session| Client::Stays(Box::new(session)));
            self.clients.extend(stays);
        }
        Ok(())
    }

    /// One slice.
    pub(crate) async fn run(&mut self, case: &Case, length: Duration) -> anyhow::Result<Slice> {
        self.fill(case).await?;
        let (before, own) = (cpu_times(&self.pids)?, own_cpu_time()?);
        let clients = std::mem::take(&mut self.clients);
        let (clients, mut measured) = slice(clients, case.pace, length).await?;
        let cpu = cpu_times(&self.pids)?.saturating_sub(before);
        let own = own_cpu_time()?.saturating_sub(own);
        self.clients = clients;
        self.rounds.push(round(&mut measured, cpu, own));
        if let Some(failure) = measured.failures.first() {
            self.failure.get_or_insert_with(|| failure.clone());
        }
        Ok(measured)
    }

    fn end(self) -> anyhow::Result<WayOutcome> {
        let memory = memory(&self.pids)?;
        let Self { name: way, rounds, memory_before, failure, changes, .. } = self;
        Ok(WayOutcome { way, rounds, memory_before, memory, failure, changes })
    }
}

fn round(measured: &mut Slice, cpu: Duration, own: Duration) -> Round {
    measured.latency.sort_unstable();
    let at = |part: usize, of: usize| {
        let last = measured.latency.len().saturating_sub(1);
        let found = measured.latency.get((measured.latency.len() * part / of).min(last));
        found.map_or(f64::NAN, |nanoseconds| float(*nanoseconds) / 1000.0)
    };
    Round {
        calls: measured.latency.len() as u64,
        failures: measured.failures.len() as u64,
        seconds: measured.took.as_secs_f64(),
        cpu: cpu.as_secs_f64(),
        client_cpu: own.as_secs_f64(),
        p50: at(1, 2),
        p99: at(99, 100),
        p999: at(999, 1000),
    }
}

/// Waits until the proxy serves what was registered: nobody else does.
pub(crate) async fn is_served(setup: &Setup, case: &Case) -> anyhow::Result<()> {
    let (base, _) = setup.way(LOCKGATE, case);
    let address = case.address(LOCKGATE, base, &setup.token);
    eventually(&format!("Lockgate serves `{}`", case.name), PATIENCE, || async {
        learn(case, &address).await.map(|_| true)
    })
    .await
}

/// All that follows the id in a right answer.
async fn learn(case: &Case, address: &Address) -> anyhow::Result<Bytes> {
    let address = Arc::new(address.clone());
    let mut session = Session::open(&address).await?;
    let learnt = session.learn().await?;
    if case.work == Work::Cycle {
        session.close().await?;
    }
    if address.speech == Speech::Plain {
        ensure!(learnt == message::rest_answer(), "it answered {learnt:?}");
        return Ok(learnt);
    }
    let whole: Value = serde_json::from_str(&format!("{{{}", std::str::from_utf8(&learnt)?))?;
    if let Work::List(count) = case.work {
        let tools = whole.pointer("/result/tools").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(tools == count, "{tools} of {count} tools are listed");
        return Ok(learnt);
    }
    let text = whole.pointer("/result/content/0/text").and_then(Value::as_str);
    ensure!(text == Some(&case.text()), "it answered {text:?}");
    let passed = case.era == Era::Legacy && case.work != Work::Rest;
    let sent = message::answer(case.era, case.answer);
    ensure!(!passed || learnt == sent, "the upstream's answer was changed");
    Ok(learnt)
}

/// Measures one case on the three ways and those of `others`.
pub(crate) async fn run(
    setup: &mut Setup,
    case: &Case,
    plan: Plan,
    others: &[Addressed],
) -> anyhow::Result<CaseOutcome> {
    setup.prepare(case).await?;
    is_served(setup, case).await?;
    if matches!(case.work, Work::List(_)) {
        let (base, _) = setup.way(LOCKGATE, case);
        let list = learn(case, &case.address(LOCKGATE, base, &setup.token)).await?;
        setup.answer_list(&list).await?;
    }
    let (mut ways, mut bytes) = (Vec::new(), 0);
    for name in [DIRECT, BARE, LOCKGATE] {
        let (base, pids) = setup.way(name, case);
        let address = case.address(name, base, &setup.token);
        let (way, of_call) = Way::open(name, case, (address, pids)).await?;
        ways.push(way);
        bytes = of_call;
    }
    for (name, address, pids) in others {
        ways.push(Way::open(name, case, (address.clone(), pids.clone())).await?.0);
    }
    let order: Vec<_> = ways.iter().map(|way| way.name.clone()).collect();
    for way in &mut ways {
        way.run(case, plan.slice).await?;
        way.rounds.clear();
    }
    for _ in 0..plan.rounds {
        for way in &mut ways {
            let changes =
                Changes::begin(setup, if way.name == LOCKGATE { case.changes } else { 0 })?;
            way.run(case, plan.slice).await?;
            way.changes += changes.end().await?;
        }
        ways.rotate_left(1);
    }
    ways.sort_by_key(|way| order.iter().position(|name| *name == way.name));
    let ways: Vec<WayOutcome> = ways.into_iter().map(Way::end).collect::<anyhow::Result<_>>()?;
    for way in &ways {
        let calls: u64 = way.rounds.iter().map(|round| round.calls).sum();
        ensure!(float(calls) > 0.0, "no call to {} was answered: {:?}", way.way, way.failure);
    }
    Ok(CaseOutcome { case: case.clone(), bytes: bytes as u64, ways })
}
