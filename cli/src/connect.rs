//! `connect`: an MCP server on standard input and output, for clients that start a command.

use data_plane::client::{
    Bridge, BridgeConfig, ClientError,
    lines::{self, Input, Messages},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    args::ConnectArgs,
    commands::Context,
    config::{self, Target},
    failure::{Exit, Failure},
    logging,
    output::{self, Output},
    roles::signals::Signals,
};

/// Lines that may wait to be served.
const QUEUE: usize = 64;
/// How long the last answers may take to be written.
const LAST_WRITES: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs until the input ends or a signal comes.
pub(crate) fn run(context: &Context, args: &ConnectArgs) -> Result<(), Failure> {
    let ConnectArgs { url, server } = args;
    let Target { url, authorization, request_timeout, log_level } =
        config::target(&context.global, &context.environment, url.as_deref(), server.as_deref())?;
    logging::start_at(&log_level)?;
    let config = BridgeConfig { url, authorization, request_timeout };
    let bridge = Bridge::new(config).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
    let ends = (tokio::io::stdin(), output::pipe());
    let ended = runtime.block_on(serve(|lines| bridge.run(lines), ends, context.output));
    // A thread may still wait for input that nobody will read.
    runtime.shutdown_background();
    ended
}

/// Carries messages until the input ends, nobody reads any more, or a signal comes. Another signal
/// ends the process at once.
pub(crate) async fn serve<F: Future<Output = ()>>(
    bridge: impl FnOnce(Input) -> (Messages, F),
    (input, output): (
        impl AsyncRead + Unpin + Send + 'static,
        impl AsyncWrite + Unpin + Send + 'static,
    ),
    talk: Output,
) -> Result<(), Failure> {
    let mut signals = Signals::watch()?;
    let (lines, taken) = lines::input(QUEUE);
    let (messages, serving) = bridge(taken);
    let reading = tokio::spawn(lines::read(input, lines));
    let mut writing = tokio::spawn(lines::write(output, messages));
    tokio::pin!(serving);
    let is_over = tokio::select! {
        () = &mut serving => true,
        () = signals.first() => false,
        // Nobody reads any more.
        _ = &mut writing => false,
    };
    if !is_over {
        signals.second_ends_at_once(talk);
        reading.abort();
        serving.await;
    }
    if !writing.is_finished() {
        // What cannot be written now was not read in time.
        tokio::time::timeout(LAST_WRITES, writing).await.ok();
    }
    Ok(())
}

pub(crate) fn failed(error: &ClientError) -> Failure {
    Failure::usage(error.to_string())
}
