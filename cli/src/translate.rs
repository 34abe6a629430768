//! `translate`: one MCP server in another transport: a command over HTTP, a URL on pipes.

mod pipe;
mod plan;
mod serve;
mod words;

use proto::Secret;

use self::plan::{Plan, Tokens};
use crate::{
    args::TranslateArgs,
    commands::Context,
    config,
    failure::{Exit, Failure},
    logging,
};

/// Runs until a signal, or until the client on the pipe has gone.
pub(crate) fn run(context: &Context, args: &TranslateArgs) -> Result<(), Failure> {
    let said = context.global.token.clone().map(Secret::from);
    let ours = config::token(&context.global, &context.environment)?;
    let plan = Plan::of(args, Tokens { said, ours })?;
    logging::start_at(&args.log_level)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
    let ended = match plan {
        Plan::Serve(serve) => runtime.block_on(serve::run(context, serve)),
        Plan::Pipe(pipe) => runtime.block_on(pipe::run(context, pipe)),
    };
    // A thread may still wait for input that nobody will read.
    runtime.shutdown_background();
    ended
}
