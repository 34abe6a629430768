//! How `connect` ends although its server says nothing.

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use super::*;

/// How long the end may take.
const SOON: Duration = Duration::from_secs(10);

/// A `connect` whose server has accepted its connection and hangs.
async fn held_up(server: &TcpListener) -> anyhow::Result<(Pipe, tokio::net::TcpStream)> {
    let url = format!("http://{}/mcp", server.local_addr()?);
    let mut pipe = Pipe::start(&["--url", &url], &[])?;
    pipe.send(&request(0, "initialize", json!({}))).await?;
    let (silent, _) = timeout(PATIENCE, server.accept()).await??;
    Ok((pipe, silent))
}

impl Pipe {
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        let pid = Pid::from_raw(id.try_into()?).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    async fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        Ok(timeout(SOON, self.child.wait()).await.context("it goes on")??.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_does_not_hold_up_the_end() -> anyhow::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let (pipe, _silent) = held_up(&server).await?;
    assert_eq!(timeout(SOON, pipe.end()).await.context("it goes on")??, 0);
    let (mut pipe, _silent) = held_up(&server).await?;
    pipe.signal(Signal::TERM)?;
    assert_eq!(pipe.ended().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() -> anyhow::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let (mut pipe, _silent) = held_up(&server).await?;
    pipe.signal(Signal::INT)?;
    pipe.signal(Signal::TERM)?;
    // Either may be seen first.
    let code = pipe.ended().await?;
    ensure!(matches!(code, Some(130 | 143)), "{code:?}");
    Ok(())
}
