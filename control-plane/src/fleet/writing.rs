//! Keeps what the fleet is in the store, and forgets proxies that are gone for good.

use std::{mem, time::Duration};

use proto::resource::kind;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{CONNECTED_MS, Fleet, Member};
use crate::store::{
    StoreError, peers,
    proxies::{self, StoredProxy},
};

/// How often what changed is written, all proxies in one transaction.
const WRITE: Duration = Duration::from_secs(1);
/// How often that is renewed.
const RENEW_MS: i64 = 10_000;
/// How often proxies that were not seen for long are looked for.
const FORGET_EVERY_MS: i64 = 60 * 60 * 1000;

impl Fleet {
    /// Writes what changed, until `stop`; then writes that all have left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(WRITE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let forget_ms = i64::try_from(self.inner.forget_after.as_millis()).unwrap_or(i64::MAX);
        let (mut looked_ms, mut checked_ms) = (0, self.inner.clock.now_ms());
        loop {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            if stopping {
                self.all_left();
            }
            let now = self.inner.clock.now_ms();
            if now - checked_ms > RENEW_MS {
                checked_ms = now;
                if let Err(error) = self.expel_revoked().await {
                    tracing::warn!(%error, "cannot tell which proxies are revoked");
                }
            }
            let forget = now - looked_ms > FORGET_EVERY_MS.min(forget_ms / 2);
            let before = forget.then_some(now.saturating_sub(forget_ms));
            if let Err(error) = self.write(now, before).await {
                tracing::warn!(%error, "cannot write what proxies reported");
            } else if forget {
                looked_ms = now;
            }
            if stopping {
                return;
            }
        }
    }

    fn all_left(&self) {
        self.inner.members.lock().values_mut().for_each(Member::leave);
    }

    async fn write(&self, now: i64, forget_before: Option<i64>) -> Result<(), StoreError> {
        let dirty = self.take_dirty(now);
        if dirty.is_empty() && forget_before.is_none() {
            return Ok(());
        }
        let written = self.write_all(&dirty, forget_before).await;
        if written.is_err() {
            let mut members = self.inner.members.lock();
            for stored in &dirty {
                if let Some(member) = members.get_mut(&stored.proxy.id) {
                    member.is_dirty = true;
                }
            }
        }
        written
    }

    async fn write_all(
        &self,
        dirty: &[StoredProxy],
        forget_before: Option<i64>,
    ) -> Result<(), StoreError> {
        let mut write = self.inner.store.begin_write().await?;
        for stored in dirty {
            proxies::put(write.connection(), stored).await?;
        }
        if let Some(before) = forget_before {
            let unseen = peers::unseen(write.connection(), before).await?;
            for id in &unseen {
                peers::remove(write.connection(), id).await?;
                write.changed(kind::PROXY, "", id).await?;
            }
            proxies::delete_unseen(write.connection(), before).await?;
        }
        write.commit().await.map(drop)
    }

    fn take_dirty(&self, now: i64) -> Vec<StoredProxy> {
        let mut members = self.inner.members.lock();
        let mut dirty = Vec::new();
        for member in members.values_mut() {
            let until = &mut member.stored.connected_until_ms;
            if member.stream.is_some() && *until - now < CONNECTED_MS - RENEW_MS {
                *until = now + CONNECTED_MS;
                member.is_dirty = true;
            }
            if mem::take(&mut member.is_dirty) {
                dirty.push(member.stored.clone());
            }
        }
        members.retain(|_, member| {
            member.stream.is_some() || member.stored.proxy.last_seen_ms + CONNECTED_MS > now
        });
        dirty
    }
}
