//! `make bench`: direct, bare proxy and Lockgate in turns, the same calls, every answer checked.

mod idle;
mod stdio;
mod streams;
mod training;

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hdrhistogram::Histogram;
use jsonwebtoken::{EncodingKey, Header};
use tests::bench::{CLIENT_TOOL, Claims, SECRET, Session, UPSTREAM_TOOL, cpu_time, slice};
use tests::world::process::Process;
use tests::world::{ControlPlane, Proxy, program};
use tokio::process::Command;

const SESSIONS: usize = 64;
const SLICE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 12;

/// One way to the upstream.
struct Way {
    name: &'static str,
    /// Whose CPU time counts.
    pid: u32,
    sessions: Vec<Session>,
    calls: u64,
    seconds: f64,
    cpu: Duration,
    latency: Histogram<u64>,
    /// CPU microseconds per call of each round.
    rounds: Vec<f64>,
}

impl Way {
    async fn open(
        name: &'static str,
        pid: u32,
        (url, token, tool): (&str, &str, &'static str),
    ) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions
                .push(Session::open(url, token, tool).await.with_context(|| format!("to {name}"))?);
        }
        let latency = Histogram::new(3)?;
        let (calls, seconds, cpu) = (0, 0.0, Duration::ZERO);
        Ok(Self { name, pid, sessions, calls, seconds, cpu, latency, rounds: Vec::new() })
    }

    async fn run(&mut self, length: Duration) -> anyhow::Result<()> {
        let before = cpu_time(self.pid)?;
        let (sessions, measured) = slice(std::mem::take(&mut self.sessions), length)
            .await
            .with_context(|| format!("to {}", self.name))?;
        let used = cpu_time(self.pid)?.saturating_sub(before);
        self.sessions = sessions;
        self.calls += measured.calls;
        self.seconds += measured.took.as_secs_f64();
        self.cpu += used;
        self.latency.add(&measured.latency)?;
        self.rounds.push(per_call(used, measured.calls));
        Ok(())
    }

    fn forget(&mut self) {
        (self.calls, self.seconds, self.cpu) = (0, 0.0, Duration::ZERO);
        self.latency.reset();
        self.rounds.clear();
    }

    fn median_cpu(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds are far below 2^52")]
fn per_call(used: Duration, calls: u64) -> f64 {
    used.as_secs_f64() * 1e6 / calls.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

/// The programs that are measured, running.
struct Setup {
    upstream: Process,
    upstream_url: String,
    bare: Process,
    bare_url: String,
    control: ControlPlane,
    gateway: Proxy,
    gateway_url: String,
    token: String,
    /// RSS of Lockgate's data plane before it had anything to do.
    idle: u64,
}

impl Setup {
    async fn start() -> anyhow::Result<Self> {
        let upstream = Process::spawn(Command::new(program("bench_upstream")?))?;
        let upstream_url = format!("{}/mcp", upstream.announced_url("listening on").await?);
        let mut command = Command::new(program("bench_bare_proxy")?);
        command.arg(&upstream_url);
        let bare = Process::spawn(command)?;
        let bare_url = format!("{}/mcp", bare.announced_url("listening on").await?);

        let secret = [("JWT_SECRET_KEY", SECRET)];
        let control = ControlPlane::start_with_variables(&[], &secret).await?;
        let gateway = control.proxy().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle = gateway.process().resident()?;
        control.ok(&["create", "upstream", "weather", "--url", &upstream_url]).await?;
        let token = jsonwebtoken::encode(
            &Header::default(),
            &Claims { username: "admin".to_owned(), exp: in_a_day()? },
            &EncodingKey::from_secret(SECRET.as_bytes()),
        )?;
        let gateway_url = format!("{}/mcp", gateway.url());
        Ok(Self {
            upstream,
            upstream_url,
            bare,
            bare_url,
            control,
            gateway,
            gateway_url,
            token,
            idle,
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => calls(&Setup::start().await?).await,
        Some("--stdio") => stdio::run(arguments.collect()).await,
        Some("--streams") => {
            let count = arguments.next().map_or(Ok(streams::STREAMS), |count| count.parse())?;
            streams::run(&Setup::start().await?, count).await
        }
        Some("--train") => training::run(Setup::start().await?).await,
        Some(other) => {
            anyhow::bail!(
                "usage: bench [--streams [COUNT] | --stdio [PROGRAM ARGUMENT...] | --train], not {other}"
            )
        }
    }
}

async fn calls(setup: &Setup) -> anyhow::Result<()> {
    let Setup { upstream, upstream_url, bare, bare_url, gateway, gateway_url, token, idle, .. } =
        setup;
    let mut ways = [
        Way::open("direct", upstream.pid(), (upstream_url, token, UPSTREAM_TOOL)).await?,
        Way::open("bare proxy", bare.pid(), (bare_url, token, CLIENT_TOOL)).await?,
        Way::open("Lockgate", gateway.process().pid(), (gateway_url, token, CLIENT_TOOL)).await?,
    ];
    for way in &mut ways {
        way.run(SLICE).await?;
        way.forget();
    }
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.run(SLICE).await?;
        }
        ways.rotate_left(1);
    }
    ways.sort_by_key(|way| {
        ["direct", "bare proxy", "Lockgate"].iter().position(|name| *name == way.name)
    });
    report(&ways, *idle, &[upstream, bare])?;
    let busy = gateway.process().resident()?;
    writeln!(
        std::io::stdout(),
        "\nRSS of Lockgate's data-plane: idle {}, after the run {}",
        mib(*idle),
        mib(busy)
    )?;
    Ok(())
}

fn report(ways: &[Way], idle: u64, others: &[&Process]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let [_, bare, gateway] = ways else { anyhow::bail!("three ways were measured") };
    let cpu_ratio = gateway.median_cpu() / bare.median_cpu();
    let p99_ratio = float(gateway.latency.value_at_quantile(0.99))
        / float(bare.latency.value_at_quantile(0.99));
    let verdict = |held: bool| if held { "held" } else { "MISSED" };
    let cores = std::thread::available_parallelism()?;
    writeln!(
        out,
        "{SESSIONS} sessions, {} B tools/call, {ROUNDS} rounds of {SLICE:?} each in turns, {cores} cores\n",
        tests::bench::BODY_BYTES
    )?;
    writeln!(
        out,
        "CPU per call against the bare proxy: {cpu_ratio:.2} x (target <= 1.60 x: {})",
        verdict(cpu_ratio <= 1.6)
    )?;
    writeln!(out, "p99 against the bare proxy: {p99_ratio:.2} x")?;
    writeln!(
        out,
        "idle data-plane RSS: {} (target <= 20 MB: {})\n",
        mib(idle),
        verdict(idle <= 20_000_000)
    )?;
    writeln!(
        out,
        "| way | calls/s | p50 µs | p99 µs | CPU µs per call (median of rounds) | CPU µs per call (all) |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for way in ways {
        let (p50, p99) = (way.latency.value_at_quantile(0.5), way.latency.value_at_quantile(0.99));
        let rate = float(way.calls) / way.seconds;
        let (median, all) = (way.median_cpu(), per_call(way.cpu, way.calls));
        writeln!(out, "| {} | {rate:.0} | {p50} | {p99} | {median:.1} | {all:.1} |", way.name)?;
    }
    for (name, process) in ["upstream", "bare proxy"].iter().zip(others) {
        writeln!(out, "\nRSS of the {name}: {}", mib(process.resident()?))?;
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MB", float(bytes) / 1e6)
}

fn in_a_day() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 86_400)
}
