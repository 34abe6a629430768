//! A proxy without a table: it joins, follows the configuration and says that it has it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use data_plane::control::channel;
use http::Uri;
use proto::token::JoinToken;
use proto::wire::reports_client::ReportsClient;
use proto::wire::sync_client::SyncClient;
use proto::wire::{self, control_message, proxy_message, report_message};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::manager::{Bearer, Manager};

/// As proxies do it.
const BEAT: Duration = Duration::from_secs(5);
const OPEN: Duration = Duration::from_secs(15);
const MESSAGE_MAX: usize = 16 * 1024 * 1024;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What a simulated proxy tells of itself.
pub(crate) enum News {
    /// It has said that this revision is active.
    Active { number: usize, revision: u64, at: Instant },
    /// Its stream ended although nobody cut it.
    Lost { number: usize, why: String },
}

/// What all lose.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Their connections.
    Connection,
    /// The configuration and the address too, as if they ran on other machines with new disks.
    Everything,
}

/// One of them.
pub(crate) struct Simulated {
    number: usize,
    id: String,
    /// Where others reach it: nobody sends anything there, but all are told.
    peer_address: String,
    /// The sync port, and the certificate that is trusted there.
    control: Uri,
    fingerprint: [u8; 32],
    bearer: Bearer,
    position: Option<wire::Position>,
    news: mpsc::Sender<News>,
    /// Changes when all are to lose their connections.
    cut: watch::Receiver<Cut>,
    failures: u32,
}

impl Simulated {
    /// Joins with a token of its own.
    pub(crate) async fn join(
        number: usize,
        manager: &Manager,
        control: &str,
        (news, cut): (mpsc::Sender<News>, watch::Receiver<Cut>),
    ) -> anyhow::Result<Self> {
        let token = manager.join_token().await?;
        let fingerprint = JoinToken::parse(&token)?.fingerprint;
        let control: Uri = control.parse()?;
        let port = control.port_u16().context("the sync port is not known")?;
        let id = format!("simulated-{number}-of-{port}");
        let request = wire::EnrollRequest {
            join_token: token,
            proxy_id: id.clone(),
            advertise_address: String::new(),
        };
        let answer = SyncClient::new(channel(&control, fingerprint)?).enroll(request).await?;
        let bearer = Bearer::new(&answer.into_inner().credential)?;
        Ok(Self {
            number,
            id,
            peer_address: format!("127.0.0.1:{}", 1 + number % 1_000),
            control,
            fingerprint,
            bearer,
            position: None,
            news,
            cut,
            failures: 0,
        })
    }

    /// Follows the control plane through all that happens to it, waiting between attempts as
    /// proxies do.
    pub(crate) async fn run(mut self) {
        loop {
            let mut cut = self.cut.clone();
            let ended = tokio::select! {
                ended = self.stream() => ended.err(),
                changed = cut.changed() => if changed.is_err() { return } else { None },
            };
            self.cut = cut;
            if let Some(why) = ended {
                let lost = News::Lost { number: self.number, why: format!("{why:#}") };
                if self.news.send(lost).await.is_err() {
                    return;
                }
            } else if let Cut::Everything = *self.cut.borrow_and_update() {
                self.position = None;
                self.peer_address = format!("127.0.0.2:{}", 1 + self.number % 1_000);
            }
            let most = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LAST_WAIT);
            self.failures += 1;
            tokio::time::sleep(most.mul_f64(rand::random())).await;
        }
    }

    /// One stream until its end, which is never a good one.
    async fn stream(&mut self) -> anyhow::Result<()> {
        let channel = channel(&self.control, self.fingerprint)?;
        let (outbox, messages) = mpsc::channel(8);
        say(&outbox, proxy_message::Message::Hello(self.hello()))?;
        let mut sync = SyncClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let opening = sync.sync(self.bearer.request(ReceiverStream::new(messages)));
        let mut inbox = timeout(OPEN, opening).await??.into_inner();
        let (_reports, _directives) = self.report(channel).await?;
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbox.message() => {
                    let message = message?.and_then(|it| it.message).context("it has ended")?;
                    self.take(message, &outbox).await?;
                }
                _ = beats.tick() => say(&outbox, proxy_message::Message::Beat(wire::ProxyBeat {}))?,
            }
        }
    }

    fn hello(&self) -> wire::Hello {
        wire::Hello {
            proxy_id: self.id.clone(),
            boot_epoch: 1,
            version: "simulated".to_owned(),
            capabilities: Vec::new(),
            position: self.position.clone(),
            advertise_address: String::new(),
            peer_address: self.peer_address.clone(),
        }
    }

    /// Opens the stream on which proxies tell what they see; this one sees nothing.
    async fn report(
        &self,
        channel: Channel,
    ) -> anyhow::Result<(mpsc::Sender<wire::ReportMessage>, Streaming<wire::ReportDirective>)> {
        let (outbox, messages) = mpsc::channel(8);
        let hello = wire::ReportHello { proxy_id: self.id.clone(), boot_epoch: 1 };
        let message = Some(report_message::Message::Hello(hello));
        outbox.try_send(wire::ReportMessage { message })?;
        let request = self.bearer.request(ReceiverStream::new(messages));
        let mut client = ReportsClient::new(channel);
        let directives = timeout(OPEN, client.report(request)).await??;
        Ok((outbox, directives.into_inner()))
    }

    async fn take(
        &mut self,
        message: control_message::Message,
        outbox: &mpsc::Sender<wire::ProxyMessage>,
    ) -> anyhow::Result<()> {
        match message {
            control_message::Message::Update(part) => self.part(part, outbox).await,
            control_message::Message::Beat(_) => Ok(()),
            control_message::Message::Goodbye(goodbye) => bail!("goodbye: {}", goodbye.reason),
        }
    }

    async fn part(
        &mut self,
        part: wire::Update,
        outbox: &mpsc::Sender<wire::ProxyMessage>,
    ) -> anyhow::Result<()> {
        let target = part.target.context("an update without target")?;
        ensure!(part.base.is_none() || part.base == self.position, "it starts from elsewhere");
        if !part.last {
            return Ok(());
        }
        let revision = target.revision;
        self.position = Some(target.clone());
        let applied = wire::Applied {
            position: Some(target),
            outcome: wire::Outcome::Active.into(),
            ..wire::Applied::default()
        };
        say(outbox, proxy_message::Message::Applied(applied))?;
        // Streams of those that this one stands for have lived long.
        self.failures = 0;
        let active = News::Active { number: self.number, revision, at: Instant::now() };
        Ok(self.news.send(active).await?)
    }
}

fn say(
    outbox: &mpsc::Sender<wire::ProxyMessage>,
    message: proxy_message::Message,
) -> anyhow::Result<()> {
    let message = wire::ProxyMessage { message: Some(message) };
    outbox.try_send(message).map_err(|_| anyhow::anyhow!("the control plane takes nothing"))
}
