//! One configuration stream: messages in, the follower's updates out.

use std::time::Duration;

use futures_util::StreamExt as _;
use proto::{Applied, Outcome, wire};
use tokio::{
    sync::{mpsc::error::SendTimeoutError, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{HELLO, Outbox, SyncApi, is_itself, is_trusted, revoked};
use crate::{
    fleet::{Hello, Host, Membership},
    identity::ProxyCaller,
    snapshot::{build::Group, follower::Follower},
};

/// How often both sides say that they are there.
pub(super) const BEAT: Duration = Duration::from_secs(5);
/// Silence after which a proxy is taken for dead.
const SILENCE: Duration = Duration::from_secs(16);
/// How long a proxy may take to read what waits for it, and to answer an update.
const STALLED: Duration = Duration::from_mins(2);
/// When a proxy that was told goodbye should come back.
const RETRY_MS: u32 = 1_000;

/// Serves the stream until either side ends it.
pub(super) async fn serve(
    api: SyncApi,
    caller: ProxyCaller,
    mut inbox: Streaming<wire::ProxyMessage>,
    outbox: Outbox<wire::ControlMessage>,
    stop: CancellationToken,
) -> Result<(), Status> {
    let hello = tokio::select! {
        hello = tokio::time::timeout(HELLO, inbox.next()) => hello,
        () = stop.cancelled() => return Ok(()),
    };
    let hello = match hello {
        Ok(Some(message)) => hello_of(message?, &caller)?,
        Ok(None) => return Ok(()),
        Err(_) => return Err(Status::deadline_exceeded("no hello in time")),
    };
    is_itself(&caller, &hello.proxy_id)?;
    let (group, active) = (Group::of(&hello.capabilities), hello.position.clone());
    let unannounced = Some(hello.peer_address.clone());
    let member = api
        .fleet
        .join(hello)
        .await
        .map_err(|error| Status::failed_precondition(error.to_string()))?;
    // Whoever is revoked from here on is expelled as a member.
    if !is_trusted(&api, &caller).await? {
        api.fleet.expel(member.proxy_id());
        return Err(revoked());
    }
    tracing::info!(proxy_id = member.proxy_id(), "a proxy has connected");
    let follower = Follower::new(group, active, member.rejected.clone());
    let sent = Instant::now();
    let served =
        Served { api, caller, member, group, unannounced, follower, outbox, sent, heard: sent };
    served.run(inbox, stop).await
}

fn hello_of(message: wire::ProxyMessage, caller: &ProxyCaller) -> Result<Hello, Status> {
    use wire::proxy_message::Message;
    let Some(Message::Hello(hello)) = message.message else {
        return Err(Status::invalid_argument("the first message must be a hello"));
    };
    let wire::Hello {
        proxy_id,
        boot_epoch,
        version,
        capabilities,
        position,
        advertise_address,
        peer_address,
    } = hello;
    if proxy_id.is_empty() {
        return Err(Status::invalid_argument("`proxy_id` is required"));
    }
    let position = position.map(Into::into);
    Ok(Hello {
        proxy_id,
        boot_epoch,
        version,
        capabilities,
        advertise_address,
        position,
        peer_address,
        is_enrolled: matches!(caller, ProxyCaller::Enrolled { .. }),
    })
}

struct Served {
    api: SyncApi,
    caller: ProxyCaller,
    member: Membership,
    group: Group,
    /// Its address for other proxies, until they are told.
    unannounced: Option<String>,
    follower: Follower,
    outbox: Outbox<wire::ControlMessage>,
    /// When the update in flight was sent.
    sent: Instant,
    /// When the proxy last said something.
    heard: Instant,
}

impl Served {
    async fn run(
        mut self,
        mut inbox: Streaming<wire::ProxyMessage>,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let superseded = self.member.superseded.clone();
        let mut head = self.api.publisher.subscribe();
        let mut beats = beats();
        self.announce().await;
        loop {
            let ended = tokio::select! {
                () = superseded.cancelled() => return self.goodbye("superseded", &stop).await,
                () = stop.cancelled() => return self.goodbye("shutting down", &stop).await,
                ended = self.turn(&mut inbox, &mut head, &mut beats) => ended?,
            };
            if ended {
                return Ok(());
            }
        }
    }

    /// Sends what is to be sent, then waits for one event. True: the proxy has left.
    async fn turn(
        &mut self,
        inbox: &mut Streaming<wire::ProxyMessage>,
        head: &mut watch::Receiver<u64>,
        beats: &mut Interval,
    ) -> Result<bool, Status> {
        head.mark_unchanged();
        self.publish().await?;
        tokio::select! {
            message = inbox.next() => match message {
                None => return Ok(true),
                Some(message) => self.take(message?)?,
            },
            _ = beats.tick() => self.beat().await?,
            _ = head.changed() => (),
        }
        Ok(false)
    }

    /// Sends an update if there is something new and nothing in flight. Cut
    /// short, the stream ends, so that no part is ever left out.
    async fn publish(&mut self) -> Result<(), Status> {
        let Self { api, follower, .. } = self;
        let Some(parts) = api.publisher.with(|ledger| follower.next(ledger)) else {
            return Ok(());
        };
        for part in parts.iter() {
            self.send(wire::control_message::Message::Update(part.clone())).await?;
        }
        self.sent = Instant::now();
        // What it said meanwhile has not been read.
        self.heard = self.sent;
        Ok(())
    }

    fn take(&mut self, message: wire::ProxyMessage) -> Result<(), Status> {
        use wire::proxy_message::Message;
        self.heard = Instant::now();
        match message.message {
            Some(Message::Applied(applied)) => self.answered(applied),
            Some(Message::Beat(wire::ProxyBeat {})) => {
                self.member.seen();
                Ok(())
            }
            Some(Message::Hello(_)) => Err(Status::invalid_argument("a second hello")),
            // From a newer proxy.
            None => Ok(()),
        }
    }

    fn answered(&mut self, applied: wire::Applied) -> Result<(), Status> {
        let applied = Applied::try_from(applied)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.follower
            .answered(&applied)
            .map_err(|violation| Status::invalid_argument(violation.to_string()))?;
        self.member.applied(&applied);
        let (proxy_id, revision) = (self.member.proxy_id(), applied.position.revision);
        match applied.outcome {
            Outcome::Active => tracing::debug!(proxy_id, revision, applied.apply_ms, "active"),
            Outcome::Resync => tracing::warn!(proxy_id, revision, "a proxy needs a snapshot"),
            Outcome::Rejected => {
                let first = applied.errors.first();
                let resource = first.map(|it| it.resource.as_str());
                let field = first.map(|it| it.field.as_str());
                let message = first.map(|it| it.message.as_str());
                tracing::error!(proxy_id, revision, resource, field, message, "refused by a proxy");
            }
        }
        Ok(())
    }

    /// Tells the other proxies where this one is; tried again with each beat.
    async fn announce(&mut self) {
        let Some(address) = &self.unannounced else { return };
        let host = match self.group {
            Group::StdioHost => Host::Stdio,
            Group::Edge => Host::None,
        };
        let id = self.member.proxy_id();
        match self.api.peers.announce(&self.caller, id, (address, host)).await {
            Ok(()) => self.unannounced = None,
            Err(error) => tracing::warn!(%error, proxy_id = id, "others cannot be told of it"),
        }
    }

    async fn beat(&mut self) -> Result<(), Status> {
        self.announce().await;
        if self.heard.elapsed() > SILENCE {
            return Err(Status::deadline_exceeded("the proxy is silent"));
        }
        if self.follower.is_waiting() && self.sent.elapsed() > STALLED {
            return Err(Status::deadline_exceeded("no answer to an update: stalled"));
        }
        let head_revision = self.follower.bookmark();
        let beat = wire::ControlBeat { head_revision };
        self.send(wire::control_message::Message::Beat(beat)).await
    }

    async fn send(&self, message: wire::control_message::Message) -> Result<(), Status> {
        hand_over(&self.outbox, message).await
    }

    async fn goodbye(&self, reason: &str, stop: &CancellationToken) -> Result<(), Status> {
        let goodbye = wire::Goodbye { reason: reason.to_owned(), retry_after_ms: RETRY_MS };
        let message = wire::control_message::Message::Goodbye(goodbye);
        let wait = if stop.is_cancelled() { Duration::from_millis(200) } else { BEAT };
        // A proxy that does not read learns it from the end of the stream.
        tokio::time::timeout(wait, self.send(message)).await.ok();
        Ok(())
    }
}

/// Waits for room: while it does, nothing that the proxy says is heard.
async fn hand_over(
    outbox: &Outbox<wire::ControlMessage>,
    message: wire::control_message::Message,
) -> Result<(), Status> {
    let message = wire::ControlMessage { message: Some(message) };
    outbox.send_timeout(Ok(message), STALLED).await.map_err(|error| match error {
        SendTimeoutError::Closed(_) => Status::cancelled("the proxy has left"),
        SendTimeoutError::Timeout(_) => {
            Status::deadline_exceeded("the proxy does not read: stalled")
        }
    })
}

fn beats() -> Interval {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_does_not_read_is_given_up() {
        let beat = || wire::control_message::Message::Beat(wire::ControlBeat::default());
        let (outbox, mut unread) = mpsc::channel(1);
        hand_over(&outbox, beat()).await.unwrap();
        let begin = Instant::now();
        let stalled = hand_over(&outbox, beat()).await.unwrap_err();
        assert_eq!((stalled.code(), begin.elapsed()), (Code::DeadlineExceeded, STALLED));
        assert!(unread.recv().await.is_some());
        hand_over(&outbox, beat()).await.unwrap();
        drop(unread);
        assert_eq!(hand_over(&outbox, beat()).await.unwrap_err().code(), Code::Cancelled);
    }
}
