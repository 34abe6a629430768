//! Logs of the roles: to stderr, as text for people and as JSON for machines.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{LogFormat, Settings},
    failure::Failure,
};

/// Said by libraries at `info` and above, and of no use to whoever runs Lockgate.
const QUIET: &str = "pingora_core=warn,pingora=warn,hyper=warn,h2=warn,tower=warn,rustls=warn,\
                     tonic=warn,sqlx=warn";

/// Starts logging as text, for commands whose standard output belongs to a protocol.
pub(crate) fn start_at(level: &str) -> Result<(), Failure> {
    let subscriber = fmt::layer().with_ansi(false).with_writer(io::stderr);
    tracing_subscriber::registry()
        .with(filter(level)?)
        .with(subscriber)
        .try_init()
        .map_err(|error| Failure::new(crate::failure::Exit::General, "internal", error.to_string()))
}

/// A level, or a filter in `tracing`'s syntax.
fn filter(level: &str) -> Result<EnvFilter, Failure> {
    let lower = level.to_ascii_lowercase();
    // ContextForge's names for the same.
    let known = match lower.as_str() {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    };
    let directives =
        if known.contains('=') { known.to_owned() } else { format!("{known},{QUIET}") };
    EnvFilter::try_new(&directives)
        .map_err(|error| Failure::usage(format!("log_level `{level}`: {error}")))
}

/// Starts logging for this process; `log_level` is a level or a filter in `tracing`'s syntax.
pub(crate) fn start(settings: &Settings) -> Result<(), Failure> {
    let filter = filter(&settings.log_level)?;
    let is_terminal = io::stderr().is_terminal();
    let is_json = match settings.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if is_json {
        registry.with(fmt::layer().json().with_writer(io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_ansi(is_terminal).with_writer(io::stderr)).try_init()
    };
    started
        .map_err(|error| Failure::new(crate::failure::Exit::General, "internal", error.to_string()))
}
