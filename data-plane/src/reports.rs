//! Tells the control plane what this proxy sees: catalogs it was asked to read, health, news.

use std::{sync::Arc, time::Duration};

use proto::{
    Catalog,
    upstream::FailureReason,
    wire::{self, report_message::Message, reports_client::ReportsClient},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

pub use crate::peer::outbox::Outbox;
use crate::{
    control::{Backoff, Link, LinkError, told},
    discovery::discover,
    edge::now_ms,
    snapshot::current::Current,
    upstream::{UpstreamHealth, Upstreams},
};

/// How long the stream may take to open.
const OPEN: Duration = Duration::from_secs(15);
/// Reports that wait to be sent.
const QUEUE: usize = 64;
/// How long ended sessions are collected, since each report becomes a revision.
const COLLECT: Duration = Duration::from_millis(300);
/// How long news of upstreams are gathered: a talkative one shall not keep this stream busy.
const GATHER: Duration = Duration::from_millis(50);
/// Ended sessions in one report, and reports at once.
const ENDED: (usize, usize) = (2_000, 20);

/// What reports are made of.
pub struct Reports {
    pub link: Link,
    pub current: Arc<Current>,
    pub upstreams: Arc<Upstreams>,
    /// Sessions that other proxies must hear of.
    pub ended: Arc<Outbox>,
}

/// A discovery that has ended.
type Found = (wire::Discover, Result<Catalog, (FailureReason, String)>);

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{}", told(.0))]
    Status(#[from] Status),
    #[error("the control plane does not answer")]
    Silent,
    #[error("the control plane does not take messages")]
    Stuck,
}

impl Reports {
    /// Reports until `stop`, through every failure of the control plane.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.stream() => ended,
            };
            if let Err(error) = &ended {
                // The stream of configuration tells of the same trouble, louder.
                tracing::debug!(%error, "no stream of reports: trying again");
                if is_refusal(error) {
                    backoff.hopeless();
                }
            }
            let wait = backoff.ended(began.elapsed());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => (),
            }
        }
    }

    async fn stream(&self) -> Result<(), Ended> {
        let (outbox, mut inbox) = timeout(OPEN, self.open()).await.map_err(|_| Ended::Silent)??;
        self.tell_health(&outbox)?;
        self.tell_ended(&outbox)?;
        let (mut ended_due, mut news_due) = (None, None);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                message = inbox.message() => match message? {
                    None => return Ok(()),
                    Some(directive) => self.obey(directive, &mut running),
                },
                Some(found) = running.join_next() => match found {
                    Ok(found) => send_found(&outbox, found).await?,
                    // Its lease ends, and then another attempt is made.
                    Err(error) => tracing::error!(%error, "a discovery has failed"),
                },
                () = self.ended.changed(), if ended_due.is_none() => {
                    ended_due = Some(Instant::now() + COLLECT);
                }
                () = sleep_until(ended_due) => {
                    ended_due = None;
                    self.tell_ended(&outbox)?;
                }
                () = self.upstreams.news().came(), if news_due.is_none() => {
                    news_due = Some(Instant::now() + GATHER);
                }
                () = sleep_until(news_due) => {
                    news_due = None;
                    self.tell_news(&outbox).await?;
                }
            }
        }
    }

    async fn open(
        &self,
    ) -> Result<(mpsc::Sender<wire::ReportMessage>, Streaming<wire::ReportDirective>), Ended> {
        let connection = self.link.connection().await?;
        let (outbox, messages) = mpsc::channel(QUEUE);
        let identity = self.link.identity();
        let hello =
            wire::ReportHello { proxy_id: identity.id.clone(), boot_epoch: identity.boot_epoch };
        send(&outbox, Message::Hello(hello))?;
        let request = connection.request(ReceiverStream::new(messages));
        let inbox = ReportsClient::new(connection.channel.clone()).report(request).await?;
        Ok((outbox, inbox.into_inner()))
    }

    fn obey(&self, directive: wire::ReportDirective, running: &mut JoinSet<Found>) {
        use wire::report_directive::Directive;
        match directive.directive {
            Some(Directive::Discover(order)) => {
                let (current, upstreams) = (Arc::clone(&self.current), Arc::clone(&self.upstreams));
                running.spawn(async move {
                    let found = read(&current, &upstreams, &order).await;
                    (order, found)
                });
            }
            // From a newer control plane.
            None => {}
        }
    }

    /// Tells what changed at upstreams, as often as there is room.
    async fn tell_news(&self, outbox: &mpsc::Sender<wire::ReportMessage>) -> Result<(), Ended> {
        let news = self.upstreams.news().take();
        if !news.health.is_empty() {
            let upstreams = news.health.into_values().map(wire_health).collect();
            let health = Message::Health(wire::HealthReport { upstreams });
            send_in_turn(outbox, health).await?;
        }
        for upstream_id in news.stale {
            let stale = Message::Stale(wire::CatalogStale { upstream_id });
            send_in_turn(outbox, stale).await?;
        }
        Ok(())
    }

    /// Tells of sessions that were deleted here, as long as the configuration does not.
    fn tell_ended(&self, outbox: &mpsc::Sender<wire::ReportMessage>) -> Result<(), Ended> {
        let waiting = self.ended.waiting(self.current.load().as_deref(), now_ms());
        let (size, most) = ENDED;
        for part in waiting.chunks(size).take(most) {
            let sessions = part.iter().map(|session| (*session).into()).collect();
            send(outbox, Message::SessionsEnded(wire::SessionsEnded { sessions }))?;
        }
        Ok(())
    }

    fn tell_health(&self, outbox: &mpsc::Sender<wire::ReportMessage>) -> Result<(), Ended> {
        let upstreams = self.upstreams.health().into_iter().map(wire_health).collect();
        send(outbox, Message::Health(wire::HealthReport { upstreams }))
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Reads a catalog once this proxy knows the upstream as it is to be read.
async fn read(
    current: &Current,
    upstreams: &Arc<Upstreams>,
    order: &wire::Discover,
) -> Result<Catalog, (FailureReason, String)> {
    let end = Instant::now() + Duration::from_millis(order.deadline_ms.into());
    let mut watch = current.watch();
    let known = watch.wait_for(|it| it.as_ref().is_some_and(|it| it.revision >= order.revision));
    let waited = tokio::time::timeout_at(end, known).await.is_ok();
    let Some(table) = current.load().filter(|_| waited) else {
        let message = format!("the proxy does not have revision {} yet", order.revision);
        return Err((FailureReason::Timeout, message));
    };
    let deadline = end.saturating_duration_since(Instant::now());
    discover(upstreams, &table, &order.upstream_id, deadline).await
}

async fn send_found(
    outbox: &mpsc::Sender<wire::ReportMessage>,
    (order, found): Found,
) -> Result<(), Ended> {
    use wire::catalog_report::Result as Wire;
    let result = match found {
        Ok(catalog) => Wire::Catalog(catalog.into()),
        Err((reason, message)) => {
            let reason = wire::FailureReason::from(reason).into();
            Wire::Failure(wire::DiscoveryFailure { reason, message })
        }
    };
    let wire::Discover { lease_id, upstream_id, .. } = order;
    let report = wire::CatalogReport { lease_id, upstream_id, result: Some(result) };
    send_in_turn(outbox, Message::Catalog(report)).await
}

/// Sends what is large or comes in numbers: waits until there is room.
async fn send_in_turn(
    outbox: &mpsc::Sender<wire::ReportMessage>,
    message: Message,
) -> Result<(), Ended> {
    let message = wire::ReportMessage { message: Some(message) };
    timeout(OPEN, outbox.send(message)).await.map_err(|_| Ended::Stuck)?.map_err(|_| Ended::Stuck)
}

fn wire_health(health: UpstreamHealth) -> wire::UpstreamHealth {
    let UpstreamHealth { upstream_id, is_up, message } = health;
    wire::UpstreamHealth { upstream_id, up: is_up, message }
}

fn send(outbox: &mpsc::Sender<wire::ReportMessage>, message: Message) -> Result<(), Ended> {
    outbox.try_send(wire::ReportMessage { message: Some(message) }).map_err(|_| Ended::Stuck)
}

fn is_refusal(ended: &Ended) -> bool {
    match ended {
        Ended::Status(status) => matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition
        ),
        Ended::Link(error) => {
            matches!(error, LinkError::NotJoined | LinkError::Refused(_) | LinkError::JoinToken(_))
        }
        Ended::Silent | Ended::Stuck => false,
    }
}
