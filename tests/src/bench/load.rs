//! Load: many clients for a while, each waiting for its answers or all together at a fixed rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::client::{Address, Session};

/// How long it is waited for answers after a slice.
const PATIENCE: Duration = Duration::from_mins(1);

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Each client calls again when it was answered.
    Closed,
    /// So many calls a second by all clients together, whatever the answers: the time that a call
    /// takes begins when it was due, so that a pause of the server is seen by all calls that
    /// were due meanwhile.
    PerSecond(u32),
}

/// Who makes the calls.
pub enum Client {
    /// One that stays.
    Stays(Box<Session>),
    /// One that connects, begins a session, calls once, ends the session and goes, each time.
    Comes(Arc<Address>),
}

impl Client {
    async fn work(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Stays(session) => session.call().await,
            Self::Comes(address) => {
                let mut session = Session::open(address).await?;
                session.call().await?;
                session.close().await
            }
        }
    }
}

/// What one slice of the run gave.
#[derive(Default)]
pub struct Slice {
    /// How long it took.
    pub took: Duration,
    /// Nanoseconds of each call that was answered rightly.
    pub latency: Vec<u64>,
    /// How calls went wrong; a client that has to say this ends.
    pub failures: Vec<String>,
}

/// Lets all clients call for `length`; gives those that are still well.
pub async fn slice(
    clients: Vec<Client>,
    pace: Pace,
    length: Duration,
) -> anyhow::Result<(Vec<Client>, Slice)> {
    let begun = Instant::now();
    let tasks: Vec<_> = match pace {
        Pace::Closed => {
            let end = begun + length;
            clients.into_iter().map(|client| tokio::spawn(drive(client, end))).collect()
        }
        Pace::PerSecond(rate) => {
            let calls = u32::try_from(u128::from(rate) * length.as_millis() / 1000)?;
            let (mut tasks, mut turns) = (Vec::new(), Vec::new());
            for client in clients {
                let (turn, due) = mpsc::channel(usize::try_from(calls)?.max(1));
                turns.push(turn);
                tasks.push(tokio::spawn(follow(client, due)));
            }
            let pause = Duration::from_secs(1) / rate.max(1);
            std::thread::spawn(move || beat(&turns, calls, pause));
            tasks
        }
    };
    let (mut well, mut all) = (Vec::new(), Slice::default());
    let last = tokio::time::Instant::now() + length + PATIENCE;
    for mut task in tasks {
        let Ok(done) = tokio::time::timeout_at(last, &mut task).await else {
            task.abort();
            all.failures.push(format!("no answer within {PATIENCE:?}"));
            continue;
        };
        let (client, latency, failure) = done.context("a client broke down")?;
        all.latency.extend(latency);
        match failure {
            Some(failure) => all.failures.push(format!("{failure:#}")),
            None => well.push(client),
        }
    }
    all.took = begun.elapsed();
    Ok((well, all))
}

type Driven = (Client, Vec<u64>, Option<anyhow::Error>);

async fn drive(mut client: Client, end: Instant) -> Driven {
    let mut latency = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return (client, latency, None);
        }
        if let Err(failure) = client.work().await {
            return (client, latency, Some(failure));
        }
        latency.push(since(begun));
    }
}

async fn follow(mut client: Client, mut due: mpsc::Receiver<Instant>) -> Driven {
    let mut latency = Vec::new();
    while let Some(begun) = due.recv().await {
        if let Err(failure) = client.work().await {
            return (client, latency, Some(failure));
        }
        latency.push(since(begun));
    }
    (client, latency, None)
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the clients in turns when to call. A thread of its own, because the timers of the runtime
/// count whole milliseconds.
fn beat(turns: &[mpsc::Sender<Instant>], calls: u32, pause: Duration) {
    sharpen_timers();
    let begun = Instant::now();
    for (number, turn) in (0..calls).zip(turns.iter().cycle()) {
        let due = begun + pause * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // There is room for all; a client that failed listens no more.
        turn.try_send(due).ok();
    }
}

/// The kernel wakes batch tasks up to 50 µs late, to wake several at once.
fn sharpen_timers() {
    let Ok(own) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = own.file_name() else { return };
    let slack = std::path::Path::new("/proc").join(thread).join("timerslack_ns");
    // Without it the times are less exact, for all ways alike.
    std::fs::write(slack, "1").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_beat_gives_each_client_its_turns() {
        let (one, mut first) = mpsc::channel(10);
        let (two, mut second) = mpsc::channel(10);
        let begun = Instant::now();
        std::thread::spawn(move || beat(&[one, two], 5, Duration::from_millis(2)));
        let mut due = Vec::new();
        while let Some(at) = first.recv().await {
            due.push(at);
        }
        assert_eq!(due.len(), 3);
        assert_eq!(due[2].duration_since(due[0]), Duration::from_millis(8));
        assert!(begun.elapsed() >= Duration::from_millis(8));
        assert_eq!(second.recv().await.into_iter().count(), 1);
    }
}
