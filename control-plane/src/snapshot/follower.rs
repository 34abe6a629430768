//! One connected proxy, without I/O: what it has, what it is being sent, and what comes next.
//!
//! The ack window is one: while an update is in flight nothing else is sent,
//! and what changes meanwhile is in the log of the [`Ledger`], where it
//! coalesces per key. So a slow proxy costs no memory.

use proto::{Applied, Outcome, Position};

use super::{
    build::Group,
    ledger::{Ledger, Parts},
};

/// The proxy broke the protocol: the stream must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("an answer to no update")]
    Unexpected,
    #[error("an answer to another update")]
    OtherTarget,
    #[error("a snapshot cannot fail for its base")]
    SnapshotResync,
}

/// State of one stream.
#[derive(Debug)]
pub struct Follower {
    group: Group,
    /// What the proxy serves.
    active: Option<Position>,
    in_flight: Option<InFlight>,
    /// Target that the proxy refused: not sent again.
    rejected: Option<Position>,
    /// Its base did not fit: the next update is a snapshot.
    resync: bool,
    /// Everything up to this revision has been sent.
    bookmark: u64,
}

#[derive(Debug)]
struct InFlight {
    target: Position,
    is_snapshot: bool,
}

impl Follower {
    /// A proxy that said hello with what it serves. `rejected` is what it is
    /// known to have refused in this life.
    pub fn new(group: Group, active: Option<Position>, rejected: Option<Position>) -> Self {
        Self { group, active, in_flight: None, rejected, resync: false, bookmark: 0 }
    }

    pub fn active(&self) -> Option<&Position> {
        self.active.as_ref()
    }

    pub fn is_waiting(&self) -> bool {
        self.in_flight.is_some()
    }

    /// What to send now; none while an answer is awaited or nothing is new.
    pub fn next(&mut self, ledger: &mut Ledger) -> Option<Parts> {
        if self.in_flight.is_some() {
            return None;
        }
        let head = ledger.head(self.group);
        self.bookmark = head.revision;
        let is_ahead = self.active.as_ref().is_some_and(|active| {
            active.store_epoch == head.store_epoch && active.revision > head.revision
        });
        let is_known = [&self.active, &self.rejected].contains(&&Some(head.clone()));
        // Revisions never go back: a control plane that lags sends nothing.
        if is_known || is_ahead {
            return None;
        }
        let base = self.active.as_ref().filter(|_| !self.resync);
        let parts = ledger.update(self.group, base);
        let is_snapshot = parts.first().is_none_or(|part| part.base.is_none());
        self.in_flight = Some(InFlight { target: head, is_snapshot });
        self.resync = false;
        Some(parts)
    }

    /// Takes the answer to the update in flight.
    pub fn answered(&mut self, applied: &Applied) -> Result<(), Violation> {
        let in_flight = self.in_flight.take().ok_or(Violation::Unexpected)?;
        if applied.position != in_flight.target {
            return Err(Violation::OtherTarget);
        }
        match applied.outcome {
            Outcome::Active => {
                self.active = Some(in_flight.target);
                self.rejected = None;
            }
            Outcome::Rejected => self.rejected = Some(in_flight.target),
            Outcome::Resync if in_flight.is_snapshot => return Err(Violation::SnapshotResync),
            Outcome::Resync => self.resync = true,
        }
        Ok(())
    }

    /// Everything up to this revision that concerns the proxy has been sent.
    /// Only true after all parts that [`Follower::next`] gave were sent.
    pub fn bookmark(&self) -> u64 {
        self.bookmark
    }
}
