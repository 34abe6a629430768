//! The benchmark itself: its bare proxy, and a quick run of the set that is held to targets.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;
use tests::bench::load::{Client, Pace, slice};
use tests::bench::usage::cpu_time;
use tests::bench::{Address, CLIENT_TOOL, Claims, SECRET, Session, UPSTREAM_TOOL, cases};
use tests::world::process::Process;
use tests::world::program;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_bare_proxy_answers_as_its_upstream_does() -> anyhow::Result<()> {
    let upstream = Process::spawn(Command::new(program("bench_upstream")?))?;
    let direct = upstream.announced_url("listening on").await?;
    let mut command = Command::new(program("bench_bare_proxy")?);
    command.arg(&direct);
    let bare = Process::spawn(command)?;
    let proxied = format!("{}/mcp", bare.announced_url("listening on").await?);
    let exp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 60;
    let claims = Claims { username: "admin".to_owned(), exp };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
    for (url, tool) in [(format!("{direct}/mcp"), UPSTREAM_TOOL), (proxied.clone(), CLIENT_TOOL)] {
        for pace in [Pace::Closed, Pace::PerSecond(200)] {
            let address = Arc::new(Address::calls(&url, &token, tool));
            let session = Box::new(Session::open(&address).await?);
            let clients = vec![Client::Stays(session)];
            let (_, measured) = slice(clients, pace, Duration::from_millis(200)).await?;
            assert!(measured.failures.is_empty(), "{url}: {:?}", measured.failures);
            assert!(measured.latency.len() > 10, "{} calls to {url}", measured.latency.len());
            if pace == Pace::PerSecond(200) {
                assert_eq!(measured.latency.len(), 40, "{url}");
            }
        }
    }
    let forged = Address::calls(&proxied, "forged", CLIENT_TOOL);
    assert!(Session::open(&Arc::new(forged)).await.is_err());
    assert!(cpu_time(bare.pid())? > Duration::ZERO);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_run_answers_every_case_and_writes_its_results() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program("bench")?);
    command.args(["--quick", "--rounds", "1", "--slice", "100", "--out"]);
    command.arg(directory.path()).kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("RSS of the data plane"), "{said}");

    let written = std::fs::read_to_string(directory.path().join("gate-part.json"))?;
    let report: Value = serde_json::from_str(&written)?;
    let names =
        |found: &Value| found.pointer("/case/name").and_then(Value::as_str).map(str::to_owned);
    let measured: Vec<_> = report["cases"].as_array().unwrap().iter().filter_map(names).collect();
    let expected: Vec<_> = cases::gate().into_iter().map(|case| case.name).collect();
    assert_eq!(measured, expected);
    for case in report["cases"].as_array().unwrap() {
        assert_eq!(case["ways"].as_array().unwrap().len(), 3);
        for way in case["ways"].as_array().unwrap() {
            assert_eq!(way["failure"], Value::Null, "{}: {way}", case["case"]["name"]);
            let calls = |round: &Value| round["calls"].as_u64().unwrap_or_default();
            let calls: u64 = way["rounds"].as_array().unwrap().iter().map(calls).sum();
            assert!(calls > 0, "{}: {way}", case["case"]["name"]);
        }
    }
    let findings = report["findings"].as_array().unwrap();
    let judged = |name: &str| {
        let judged = |it: &&Value| it["case"] == name && !it["target"].is_null();
        findings.iter().filter(judged).count()
    };
    for case in cases::gate() {
        assert_eq!(judged(&case.name), case.targets.len(), "{}: {findings:?}", case.name);
    }
    assert_eq!(judged("idle"), 1, "{findings:?}");
    for chart in ["gate-part-ratios.svg", "gate-part-absolute.svg"] {
        let chart = std::fs::read_to_string(directory.path().join(chart))?;
        assert!(chart.starts_with("<svg") && chart.contains("call-256k-modern"), "{chart}");
    }
    Ok(())
}
