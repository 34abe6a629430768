//! A server behind a URL, offered on stdin and stdout, or to a client that is started for it.

use std::{process::Stdio, time::Duration};

use data_plane::client::{
    Bridge, BridgeConfig, EventBridge,
    lines::{Input, Messages},
};
use proto::Secret;
use tokio::process::Command;

use super::plan::{Pipe, Transport, check_program};
use crate::{
    commands::Context,
    connect,
    failure::{Exit, Failure},
    output,
};

/// How long a client that was started may take to end, once it has nobody to talk to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Carries messages until the client has gone or a signal comes.
pub(super) async fn run(context: &Context, pipe: Pipe) -> Result<(), Failure> {
    let Pipe { url, transport, bearer, client } = pipe;
    let config = BridgeConfig {
        url: url.into(),
        authorization: bearer.map(|token| Secret::from(format!("Bearer {}", token.expose()))),
        request_timeout: context.global.timeout.map(Duration::from_secs),
    };
    match transport {
        Transport::StreamableHttp => {
            let bridge = Bridge::new(config).map_err(|error| connect::failed(&error))?;
            carry(context, client, |lines| bridge.run(lines)).await
        }
        Transport::Sse => {
            let bridge = EventBridge::new(config).map_err(|error| connect::failed(&error))?;
            carry(context, client, |lines| bridge.run(lines)).await
        }
    }
}

async fn carry<F: Future<Output = ()>>(
    context: &Context,
    client: Option<Vec<String>>,
    bridge: impl FnOnce(Input) -> (Messages, F),
) -> Result<(), Failure> {
    let Some(words) = client else {
        return connect::serve(bridge, (tokio::io::stdin(), output::pipe()), context.output).await;
    };
    check_program(&words, context.environment.get("PATH"))?;
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::usage("no program"))?;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Unavailable, "unavailable", format!("`{program}`: {error}"))
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(context.environment.for_commands())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) {
        connect::serve(bridge, (output, input), context.output).await?;
    }
    // Dropped, it is killed.
    tokio::time::timeout(LAST_WORDS, child.wait()).await.ok();
    Ok(())
}
