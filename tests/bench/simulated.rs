//! A proxy without a table: it joins, follows the configuration and says that it has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper_util::rt::TokioIo;
use proto::token::JoinToken;
use proto::wire::reports_client::ReportsClient;
use proto::wire::sync_client::SyncClient;
use proto::wire::{self, control_message, proxy_message, report_message};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::manager::{Bearer, Manager};
use super::pinned;

/// As proxies do it.
const BEAT: Duration = Duration::from_secs(5);
const OPEN: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MESSAGE_MAX: usize = 16 * 1024 * 1024;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// The sync port of a control plane. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Door {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Door {
    /// The one whose certificate has this fingerprint, at `https://HOST:PORT`.
    pub(crate) fn new(url: &str, fingerprint: [u8; 32]) -> anyhow::Result<Self> {
        let address: http::Uri = url.parse()?;
        let host = address.host().context("no host")?.to_owned();
        let port = address.port_u16().context("no port")?;
        Ok(Self { host, port, tls: Arc::new(pinned::client_config(fingerprint)?).into() })
    }

    /// A connection of its own.
    fn channel(&self) -> anyhow::Result<Channel> {
        let Self { host, port, tls } = self.clone();
        let name = ServerName::try_from(host.clone())?;
        let connector = tower::service_fn(move |_: http::Uri| {
            let (tls, host, name) = (tls.clone(), host.clone(), name.clone());
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        Ok(Endpoint::from_static("http://control-plane")
            .connect_timeout(OPEN)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector))
    }
}

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
    /// The configuration too, as if their disks were new.
    Everything,
}

/// One of them.
pub(crate) struct Simulated {
    number: usize,
    id: String,
    door: Door,
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
        let door = Door::new(control, JoinToken::parse(&token)?.fingerprint)?;
        let id = format!("simulated-{number}");
        let request = wire::EnrollRequest {
            join_token: token,
            proxy_id: id.clone(),
            advertise_address: String::new(),
        };
        let answer = SyncClient::new(door.channel()?).enroll(request).await?;
        let bearer = Bearer::new(&answer.into_inner().credential)?;
        Ok(Self { number, id, door, bearer, position: None, news, cut, failures: 0 })
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
            }
            let most = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LAST_WAIT);
            self.failures += 1;
            tokio::time::sleep(most.mul_f64(rand::random())).await;
        }
    }

    /// One stream until its end, which is never a good one.
    async fn stream(&mut self) -> anyhow::Result<()> {
        let channel = self.door.channel()?;
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
            // Nobody sends anything there, but all others are told.
            peer_address: format!("127.0.0.1:{}", 1 + self.number % 1_000),
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
