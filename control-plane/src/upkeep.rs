//! What the clock does: session keys, expired tokens, reminders of weak secrets.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{identity::Identity, peers::Peers};

const EVERY: Duration = Duration::from_mins(1);
/// Rounds between two reminders: an hour.
const REMIND_EVERY: u64 = 60;

/// Looks after identity and ended sessions until `stop`. A failed round is tried again with the next.
pub(crate) async fn run(
    identity: Identity,
    peers: Peers,
    weak: Vec<&'static str>,
    stop: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u64.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => (),
        }
        if round.is_multiple_of(REMIND_EVERY) {
            remind(&weak);
        }
        if let Err(error) = identity.upkeep().await {
            tracing::warn!(%error, "keys and tokens were not looked after");
        }
        if let Err(error) = peers.upkeep().await {
            tracing::warn!(%error, "ended sessions were not looked after");
        }
    }
}

fn remind(weak: &[&'static str]) {
    for secret in weak {
        tracing::warn!(
            "WEAK SECRET: `{secret}` can be guessed. Anybody who guesses it owns this gateway. \
             Set another one of at least 16 characters, or leave it out to have one generated."
        );
    }
}
