//! `lockgate`: everything from one binary.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod client;
mod commands;
mod config;
mod failure;
mod inputs;
mod listen;
mod logging;
mod manifest;
mod nearest;
mod output;
mod tree;
mod view;

use args::Cli;
use commands::Context;
use config::Environment;
use failure::{Exit, Failure};
use output::Output;

/// Less memory under many connections than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(global.output);
    let context = Context { global, environment: Environment::of_process(), output };
    match run(&context, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version are answers, everything else is misuse.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody can be told that the terminal is gone.
    error.print().ok();
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

fn run(context: &Context, command: args::Command) -> Result<(), Failure> {
    // One TLS provider in the process; a second install would be refused.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Failure::new(Exit::General, "internal", "a TLS provider is already there"))?;
    match command {
        args::Command::Up(_) => Err(absent("up")),
        args::Command::ControlPlane(_) => Err(absent("control-plane")),
        args::Command::DataPlane(_) => Err(absent("data-plane")),
        args::Command::Tools { .. } => Err(absent("tools")),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
            runtime.block_on(commands::run(context, command))
        }
    }
}

/// Small images leave roles out.
fn absent(role: &str) -> Failure {
    Failure::new(Exit::General, "not_built", format!("this lockgate was built without `{role}`"))
}
