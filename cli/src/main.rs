//! `lockgate`: everything from one binary.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod client;
mod commands;
mod config;
#[cfg(feature = "data-plane")]
mod connect;
#[cfg(feature = "control-plane")]
mod control_plane;
#[cfg(feature = "data-plane")]
mod data_plane;
mod failure;
mod inputs;
mod listen;
mod logging;
mod manifest;
mod nearest;
mod output;
mod roles;
#[cfg(feature = "data-plane")]
mod tools;
#[cfg(feature = "data-plane")]
mod translate;
mod transport;
mod tree;
#[cfg(all(feature = "control-plane", feature = "data-plane"))]
mod up;
mod view;

use args::{Cli, Command};
use commands::Context;
use config::Environment;
use failure::{Exit, Failure};
use output::{Output, Talk};

/// Less memory under many connections than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let talk = if global.quiet { Talk::ErrorsOnly } else { Talk::Usual };
    let output = Output::new(global.output, talk);
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

fn run(context: &Context, command: Command) -> Result<(), Failure> {
    // One TLS provider in the process; a second install would be refused.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Failure::new(Exit::General, "internal", "a TLS provider is already there"))?;
    match command {
        #[cfg(all(feature = "control-plane", feature = "data-plane"))]
        Command::Up(args) => up::run(context, &args),
        #[cfg(feature = "control-plane")]
        Command::ControlPlane(args) => control_plane::run(context, &args),
        #[cfg(feature = "data-plane")]
        Command::DataPlane(args) => data_plane::run(context, &args),
        #[cfg(feature = "data-plane")]
        Command::Connect(args) => connect::run(context, &args),
        #[cfg(feature = "data-plane")]
        Command::Translate(args) => translate::run(context, &args),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
            runtime.block_on(commands::run(context, command))
        }
    }
}
