//! Changes of Lockgate's configuration while it is measured: a tool comes, a tool goes.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::client::http;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::active_at;
use super::manager::Manager;
use super::setup::Setup;

/// Somebody who changes the configuration until told to stop.
pub(crate) struct Changes(Option<Running>);

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<u64>>,
    manager: Manager,
}

impl Changes {
    /// Begins to make so many changes a second.
    pub(crate) fn begin(setup: &Setup, per_second: u32) -> anyhow::Result<Self> {
        if per_second == 0 {
            return Ok(Self(None));
        }
        let url = format!("{}/tools", setup.control.management());
        let (stop, stopped) = oneshot::channel();
        let token = setup.token.clone();
        let manager = Manager::of(&setup.control, &setup.token)?;
        let task = tokio::spawn(change(url, token, per_second, stopped));
        Ok(Self(Some(Running { stop, task, manager })))
    }

    /// Stops, waits until the last change is active at the proxy, and gives how many were made.
    pub(crate) async fn end(self) -> anyhow::Result<u64> {
        let Some(Running { stop, task, manager }) = self.0 else { return Ok(0) };
        // It may have failed and tells so below.
        stop.send(()).ok();
        let made = task.await??;
        active_at(&manager, 1, manager.revision().await?).await?;
        Ok(made)
    }
}

async fn change(
    url: String,
    token: String,
    per_second: u32,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<u64> {
    let http = http();
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut made, mut there): (u64, Option<String>) = (0, None);
    let mut is_over = false;
    // What has come has to go.
    while !is_over || there.is_some() {
        ticks.tick().await;
        is_over |= stopped.try_recv() != Err(TryRecvError::Empty);
        let request = match &there {
            Some(id) => http.delete(format!("{url}/{id}")),
            None => http.post(&url).json(&serde_json::json!({
                "name": format!("passing-{}", made % 64),
                "url": "http://127.0.0.1:9/",
                "integration_type": "REST",
                "request_type": "POST",
            })),
        };
        let answer = request.bearer_auth(&token).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "a change was answered with {status}: {body}");
        there = if there.is_some() {
            None
        } else {
            let tool: Value = serde_json::from_str(&body)?;
            let id = tool.get("id").and_then(Value::as_str).context("a tool without id")?;
            Some(id.to_owned())
        };
        made += 1;
    }
    Ok(made)
}
