//! A proxy's place in the fleet, for as long as its stream is open.

use proto::{Applied, Outcome, Position};
use tokio_util::sync::CancellationToken;

use super::{Fleet, Member};
use crate::store::proxies::StoredProxy;

/// What a proxy says of itself when it connects.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) proxy_id: String,
    pub(crate) boot_epoch: u64,
    pub(crate) version: String,
    pub(crate) capabilities: Vec<String>,
    pub(crate) advertise_address: String,
    pub(crate) position: Option<Position>,
    /// Where other proxies reach it; empty: nowhere.
    pub(crate) peer_address: String,
    /// It came with a credential: it is not the proxy in this process.
    pub(crate) is_enrolled: bool,
}

/// A stream that is served. Dropped, the proxy has left.
pub(crate) struct Membership {
    pub(super) fleet: Fleet,
    pub(super) proxy_id: String,
    pub(super) stream: u64,
    /// Cancelled when a later stream of the same proxy takes over.
    pub(crate) superseded: CancellationToken,
    /// What it refused in this life.
    pub(crate) rejected: Option<Position>,
}

/// A later life of the same proxy is connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy `{proxy_id}` is connected in life {current}, this is life {given}")]
pub(crate) struct Superseded {
    pub(crate) proxy_id: String,
    pub(crate) current: u64,
    pub(crate) given: u64,
}

impl Membership {
    pub(crate) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// The proxy has said something.
    pub(crate) fn seen(&self) {
        self.change(|_| ());
    }

    /// The proxy has answered an update.
    pub(crate) fn applied(&self, applied: &Applied) {
        let Applied { position, outcome, errors, apply_ms } = applied;
        self.change(|member| {
            member.is_dirty = true;
            let StoredProxy { proxy, rejected, .. } = &mut member.stored;
            match outcome {
                Outcome::Active => {
                    proxy.applied_revision = position.revision;
                    proxy.apply_ms = *apply_ms;
                    proxy.rejected_revision = None;
                    proxy.rejected_errors.clear();
                    *rejected = None;
                }
                Outcome::Rejected => {
                    proxy.rejected_revision = Some(position.revision);
                    proxy.rejected_errors.clone_from(errors);
                    *rejected = Some(position.clone());
                }
                Outcome::Resync => {}
            }
            match outcome {
                Outcome::Active | Outcome::Rejected => self.answered(member, position.revision),
                Outcome::Resync => {}
            }
        });
    }

    /// Who waits for the proxy in this process is told.
    fn answered(&self, member: &Member, revision: u64) {
        if !member.is_enrolled {
            self.fleet.inner.local.send_replace(Some(revision));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Member)) {
        let now = self.fleet.inner.clock.now_ms();
        let mut members = self.fleet.inner.members.lock();
        let member = members.get_mut(&self.proxy_id);
        if let Some(member) = member.filter(|member| member.stream == Some(self.stream)) {
            member.stored.proxy.last_seen_ms = now;
            change(member);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.change(|member| {
            member.leave();
            if !member.is_enrolled {
                self.fleet.inner.local.send_replace(None);
            }
        });
        self.fleet.inner.changes.send_modify(|number| *number += 1);
    }
}
