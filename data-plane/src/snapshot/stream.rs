//! Follows the control plane: takes updates from the stream, makes them active, answers.

use std::{path::Path, sync::Arc, time::Duration};

use prost::Message as _;
use proto::{
    Position,
    proxy::STDIO_HOST,
    wire::{self, sync_client::SyncClient},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::{
    apply::{Applier, Change, Done, Record, Step, Violation},
    current::Current,
    disk::{Disk, DiskError},
    identity::ProxyIdentity,
    saver::{SaveError, Saver},
    table::Table,
};
use crate::{
    config::{Control, Stdio},
    control::{Addresses, Backoff, Link, LinkError, told},
};

/// How often both sides say that they are there.
const BEAT: Duration = Duration::from_secs(5);
/// Silence after which the control plane is taken for dead.
const SILENCE: Duration = Duration::from_secs(16);
/// How long the stream may take to open.
const OPEN: Duration = Duration::from_secs(15);
/// Messages that wait to be sent.
const QUEUE: usize = 8;
/// Largest message: a part of an update, which may be one large resource.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// The configuration of this proxy: read from disk, ready to be followed.
pub struct Snapshot {
    identity: ProxyIdentity,
    applier: Applier<Table>,
    disk: Disk,
    current: Arc<Current>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{}", told(.0))]
    Status(#[from] Status),
    #[error("the control plane broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error("the control plane is silent")]
    Silent,
    #[error("the control plane does not take messages")]
    Stuck,
    #[error("the control plane said goodbye: {reason}")]
    Goodbye { reason: String, retry_after: Duration },
}

impl Snapshot {
    /// Locks the data directory, counts this start, and makes the last known
    /// good configuration active, if there is one. Lists get pages of `page_size` items;
    /// 0: one page. Blocks.
    pub fn open(
        data_dir: &Path,
        current: Arc<Current>,
        page_size: usize,
    ) -> Result<Self, DiskError> {
        let (disk, content) = Disk::open(data_dir)?;
        let identity = ProxyIdentity::start(disk.directory())?;
        let active = Arc::clone(&current);
        let mut applier = Applier::new(Box::new(move |resources, position: &Position, changed| {
            let before = active.load();
            let mut table = Table::follow(before.as_deref(), resources, position, changed)?;
            table.page_size = page_size;
            Ok(table)
        }));
        if let Some(content) = content {
            let revision = content.position().map(|it| it.revision);
            match applier.restore(content) {
                Ok(table) => {
                    current.store(Arc::new(table));
                    tracing::info!(revision, "started from the configuration on disk");
                }
                Err(errors) => {
                    tracing::error!(revision, ?errors, "the configuration on disk is refused");
                }
            }
        }
        Ok(Self { identity, applier, disk, current })
    }

    /// Who this proxy is.
    pub fn identity(&self) -> &ProxyIdentity {
        &self.identity
    }

    /// Where this proxy keeps what is its own.
    pub(crate) fn directory(&self) -> &Path {
        self.disk.directory()
    }

    /// The way from this proxy to its control plane, for all that it says to it.
    pub fn link(&self, control: Control, addresses: Addresses) -> Link {
        let directory = self.disk.directory().to_owned();
        Link::new(control, self.identity.clone(), addresses, directory)
    }

    /// Follows the control plane until `stop`, through every failure of it.
    pub async fn run(self, link: Link, stdio: Stdio, stop: CancellationToken) {
        let Self { identity: _, applier, disk, current } = self;
        let (saver, writer) = Saver::start(disk);
        let owes_disk = false;
        let mut follower = Follow { applier, current, saver, link, stdio, owes_disk };
        let follow = async {
            tokio::select! {
                () = stop.cancelled() => (),
                () = follower.follow() => (),
            }
            // The writer ends when nothing more can come.
            drop(follower);
        };
        tokio::join!(follow, writer);
    }
}

struct Follow {
    applier: Applier<Table>,
    current: Arc<Current>,
    saver: Saver,
    link: Link,
    stdio: Stdio,
    /// Something was taken away, but not on disk: to be made good before
    /// the control plane hears of the position.
    owes_disk: bool,
}

/// One open stream.
struct Open {
    inbox: Streaming<wire::ControlMessage>,
    outbox: mpsc::Sender<wire::ProxyMessage>,
}

impl Follow {
    async fn follow(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let ended = match self.stream().await {
                Err(ended) => ended,
                Ok(()) => Ended::Status(Status::unavailable("the stream has ended")),
            };
            let least = self.report(&ended, &mut backoff).await;
            tokio::time::sleep(least + backoff.ended(began.elapsed())).await;
        }
    }

    /// Logs why a stream ended; gives the least wait.
    async fn report(&self, ended: &Ended, backoff: &mut Backoff) -> Duration {
        match ended {
            Ended::Goodbye { reason, retry_after } => {
                tracing::info!(reason, "the control plane said goodbye");
                return retry_after.mul_f64(rand::random());
            }
            Ended::Status(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition => {
                    tracing::error!(error = %ended, "refused by the control plane");
                    backoff.hopeless();
                    self.link.refused(status).await;
                }
                _ => tracing::warn!(error = %ended, "no stream of configuration: trying again"),
            },
            Ended::Link(LinkError::NotJoined | LinkError::Refused(_) | LinkError::JoinToken(_)) => {
                tracing::error!(error = %ended, "cannot join");
                backoff.hopeless();
            }
            Ended::Link(_) | Ended::Silent | Ended::Stuck => {
                tracing::warn!(error = %ended, "no stream of configuration: trying again");
            }
            Ended::Violation(_) | Ended::Save(_) => {
                tracing::error!(error = %ended, "closed the stream of configuration");
            }
        }
        Duration::ZERO
    }

    async fn stream(&mut self) -> Result<(), Ended> {
        if let Some(whole) = self.whole().filter(|_| self.owes_disk) {
            self.saver.save_now(whole).await?;
            self.owes_disk = false;
        }
        let mut open = timeout(OPEN, self.open()).await.map_err(|_| Ended::Silent)??;
        self.applier.connected();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = open.inbox.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    heard = Instant::now();
                    self.take(message, &open.outbox).await?;
                }
                _ = beats.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Ended::Silent);
                    }
                    let beat = wire::proxy_message::Message::Beat(wire::ProxyBeat {});
                    send(&open.outbox, beat)?;
                    self.save_whole().await;
                }
            }
        }
    }

    async fn open(&self) -> Result<Open, Ended> {
        let connection = self.link.connection().await?;
        let (outbox, messages) = mpsc::channel(QUEUE);
        send(&outbox, wire::proxy_message::Message::Hello(self.hello()))?;
        let request = connection.request(ReceiverStream::new(messages));
        let mut client =
            SyncClient::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let inbox = client.sync(request).await?.into_inner();
        Ok(Open { inbox, outbox })
    }

    fn hello(&self) -> wire::Hello {
        let ProxyIdentity { id, boot_epoch } = self.link.identity().clone();
        let capabilities = match self.stdio {
            Stdio::Allowed => vec![STDIO_HOST.to_owned()],
            Stdio::Refused => Vec::new(),
        };
        wire::Hello {
            proxy_id: id,
            boot_epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities,
            position: self.applier.position().cloned().map(Into::into),
            advertise_address: self.link.advertise_address().to_owned(),
            peer_address: self.link.peer_address().to_owned(),
        }
    }

    async fn take(
        &mut self,
        message: wire::ControlMessage,
        outbox: &mpsc::Sender<wire::ProxyMessage>,
    ) -> Result<(), Ended> {
        use wire::control_message::Message;
        match message.message {
            Some(Message::Update(part)) => self.part(part, outbox).await,
            Some(Message::Beat(wire::ControlBeat { head_revision })) => {
                Ok(self.applier.bookmark(head_revision)?)
            }
            Some(Message::Goodbye(wire::Goodbye { reason, retry_after_ms })) => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                Err(Ended::Goodbye { reason, retry_after })
            }
            // From a newer control plane.
            None => Ok(()),
        }
    }

    async fn part(
        &mut self,
        part: wire::Update,
        outbox: &mpsc::Sender<wire::ProxyMessage>,
    ) -> Result<(), Ended> {
        let began = Instant::now();
        let Step::Done(done) = self.applier.part(part)? else { return Ok(()) };
        let mut answer = done.answer(0);
        let Done { target, result } = done;
        match result {
            Ok(change) => self.activate(change).await?,
            Err(refusal) => {
                tracing::error!(revision = target.revision, ?refusal, "kept the old configuration");
            }
        }
        answer.apply_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        send(outbox, wire::proxy_message::Message::Applied(answer.into()))
    }

    /// Requests see it at once; the answer waits for the disk only where
    /// something was taken away.
    async fn activate(&mut self, change: Change<Table>) -> Result<(), SaveError> {
        let Change { table, record, takes_grants } = change;
        self.current.store(Arc::new(table));
        let record = match record {
            Record::Delta(_) if self.saver.wants_snapshot() => self.whole().unwrap_or(record),
            record => record,
        };
        if takes_grants {
            self.owes_disk = true;
            self.saver.save_now(record).await?;
            self.owes_disk = false;
            return Ok(());
        }
        self.saver.save(record).await;
        Ok(())
    }

    /// Makes good for a write that failed, and compacts a long log.
    async fn save_whole(&self) {
        if !self.saver.wants_snapshot() {
            return;
        }
        if let Some(whole) = self.whole() {
            self.saver.save(whole).await;
        }
    }

    fn whole(&self) -> Option<Record> {
        let snapshot = self.applier.content().to_snapshot()?;
        Some(Record::Snapshot(snapshot.encode_to_vec()))
    }
}

/// The queue is longer than anything a healthy stream leaves in it.
fn send(
    outbox: &mpsc::Sender<wire::ProxyMessage>,
    message: wire::proxy_message::Message,
) -> Result<(), Ended> {
    outbox.try_send(wire::ProxyMessage { message: Some(message) }).map_err(|_| Ended::Stuck)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    use proto::resource::Resource;

    use super::*;
    use crate::{
        auth::{AuthError, authenticate},
        snapshot::{
            apply::tests::{Store, ended},
            table::tests::token,
        },
    };

    #[test]
    fn a_token_that_is_revoked_beside_ended_sessions_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let current = Arc::new(Current::new(|_| ()));
        let mut snapshot = Snapshot::open(dir.path(), Arc::clone(&current), 0).unwrap();
        let mut compile = |update| {
            let Ok(Step::Done(done)) = snapshot.applier.part(update) else {
                panic!("it is not whole")
            };
            Arc::new(done.result.unwrap().table)
        };
        let is_trusted = |table: &Table, secret: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::try_from(format!("Bearer {secret}")).unwrap();
            headers.insert(AUTHORIZATION, value);
            match authenticate(table, &headers, 0, &Arc::default()) {
                Ok(_) => true,
                Err(AuthError::UnknownToken) => false,
                Err(error) => panic!("{error}"),
            }
        };
        let [one, two, three] =
            ["lg_one", "lg_two", "lg_three"].map(|secret| Resource::Token(token(secret, "alice")));
        let mut store = Store::of(&[one.clone(), two.clone(), three]);
        let first = compile(store.snapshot());
        current.store(Arc::clone(&first));
        let quick = compile(store.delta(&[ended(1)], &[]));
        assert!(Arc::ptr_eq(quick.trust(), first.trust()) && quick.has_ended(&[1; 16]));
        assert!(["lg_one", "lg_two", "lg_three"].iter().all(|secret| is_trusted(&quick, secret)));
        current.store(quick);
        let revoked = compile(store.delta(&[ended(2)], &[one]));
        assert!(!is_trusted(&revoked, "lg_one") && is_trusted(&revoked, "lg_three"));
        assert!(revoked.has_ended(&[1; 16]) && revoked.has_ended(&[2; 16]));
        current.store(revoked);
        // What is active is not what the update begins from.
        drop(compile(store.delta(&[], &[two])));
        let late = compile(store.delta(&[ended(3)], &[]));
        assert!(!is_trusted(&late, "lg_two") && is_trusted(&late, "lg_three"));
        assert!(late.has_ended(&[3; 16]));
    }
}
