//! The parts of the benchmark that are not Lockgate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use tests::bench::{CLIENT_TOOL, Claims, SECRET, Session, UPSTREAM_TOOL, cpu_time, slice};
use tests::world::process::Process;
use tests::world::program;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_bare_proxy_answers_as_its_upstream_does() -> anyhow::Result<()> {
    let upstream = Process::spawn(Command::new(program("bench_upstream")?))?;
    let direct = format!("{}/mcp", upstream.announced_url("listening on").await?);
    let mut command = Command::new(program("bench_bare_proxy")?);
    command.arg(&direct);
    let bare = Process::spawn(command)?;
    let proxied = format!("{}/mcp", bare.announced_url("listening on").await?);
    let exp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 60;
    let claims = Claims { username: "admin".to_owned(), exp };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
    for (url, tool) in [(&direct, UPSTREAM_TOOL), (&proxied, CLIENT_TOOL)] {
        let sessions = vec![Session::open(url, &token, tool).await?];
        let (_, measured) = slice(sessions, Duration::from_millis(200)).await?;
        assert!(measured.calls > 10, "{} calls to {url}", measured.calls);
    }
    assert!(Session::open(&proxied, "forged", CLIENT_TOOL).await.is_err());
    assert!(cpu_time(bare.pid())? > Duration::ZERO);
    Ok(())
}
