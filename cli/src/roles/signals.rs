//! SIGTERM and SIGINT: the first one drains, the second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::{Exit, Failure},
    output::Output,
};

/// The signals that end a program politely.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// What a shell reports for a process that a signal ended.
const ENDED_BY_SIGNAL: i32 = 128;

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::General, "io", format!("signals cannot be watched: {error}"))
            })
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub(crate) async fn first(&mut self) {
        self.next().await;
    }

    /// Ends the process when another one comes while it drains.
    pub(crate) fn second_ends_at_once(mut self, output: Output) {
        tokio::spawn(async move {
            let number = self.next().await;
            output.say("stopped at once");
            std::process::exit(ENDED_BY_SIGNAL + number.as_raw_value());
        });
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
