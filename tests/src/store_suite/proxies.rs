//! The registry of proxies: what each runs and what it refused, also after restarts.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use anyhow::{Context as _, bail};
use control_plane::{ControlPlane, clock::ManualClock};
use proto::wire::{
    self, control_message, operations_client::OperationsClient, proxy_message,
    sync_client::SyncClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::place::Place;

const SOON: Duration = Duration::from_secs(20);

/// A proxy that answers as it is told.
struct Stub {
    outbox: mpsc::Sender<wire::ProxyMessage>,
    inbox: Streaming<wire::ControlMessage>,
}

impl Stub {
    async fn connect(
        control_plane: &ControlPlane,
        boot_epoch: u64,
        position: Option<wire::Position>,
    ) -> anyhow::Result<Self> {
        let (outbox, messages) = mpsc::channel(8);
        let hello = wire::Hello {
            proxy_id: "stub".to_owned(),
            boot_epoch,
            version: "9".to_owned(),
            capabilities: vec!["stdio-host".to_owned()],
            position,
            advertise_address: "http://stub".to_owned(),
            peer_address: String::new(),
        };
        say(&outbox, proxy_message::Message::Hello(hello)).await?;
        let mut client = SyncClient::new(control_plane.local_channel());
        let inbox = client.sync(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { outbox, inbox })
    }

    /// The next update, as its base and target; none if a beat comes first.
    async fn update(&mut self) -> anyhow::Result<Option<(Option<wire::Position>, wire::Position)>> {
        loop {
            let message = tokio::time::timeout(SOON, self.inbox.message()).await??;
            match message.context("the stream goes on")?.message {
                Some(control_message::Message::Update(update)) if update.last => {
                    return Ok(Some((update.base, update.target.context("a target")?)));
                }
                Some(control_message::Message::Update(_)) => {}
                // The first beat comes at once and says that all has been sent.
                Some(control_message::Message::Beat(_)) => return Ok(None),
                other => bail!("unexpected: {other:?}"),
            }
        }
    }

    async fn answer(&self, position: wire::Position, outcome: wire::Outcome) -> anyhow::Result<()> {
        let error = wire::FieldError {
            resource: "tool/x".to_owned(),
            field: "definition".to_owned(),
            message: "is not liked".to_owned(),
        };
        let errors = if outcome == wire::Outcome::Rejected { vec![error] } else { Vec::new() };
        let applied = wire::Applied {
            position: Some(position),
            outcome: outcome.into(),
            errors,
            apply_ms: 7,
        };
        say(&self.outbox, proxy_message::Message::Applied(applied)).await
    }
}

async fn say(
    outbox: &mpsc::Sender<wire::ProxyMessage>,
    message: proxy_message::Message,
) -> anyhow::Result<()> {
    Ok(outbox.send(wire::ProxyMessage { message: Some(message) }).await?)
}

/// Waits until the stub is listed as expected.
async fn listed(
    control_plane: &ControlPlane,
    is_expected: impl Fn(&wire::Proxy) -> bool,
) -> anyhow::Result<wire::Proxy> {
    let look = async {
        loop {
            let mut client = OperationsClient::new(control_plane.local());
            let answer = client.list_proxies(wire::ListProxiesRequest::default()).await?;
            let found = answer.into_inner().proxies.into_iter().find(|it| is_expected(it));
            if let Some(found) = found {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, look).await.context("the proxy is listed")?
}

/// What a proxy runs and what it refused is listed, outlives the control
/// plane, and a refused position is not sent to the same life again.
pub async fn proxies_are_remembered(place: &Place) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let first = place.start(&clock).await?;
    let mut stub = Stub::connect(&first, 1, None).await?;
    let (base, target) = stub.update().await?.context("a snapshot")?;
    ensure!(base.is_none());
    stub.answer(target.clone(), wire::Outcome::Rejected).await?;
    let proxy = listed(&first, |it| it.rejected_revision == target.revision).await?;
    ensure!(proxy.connected && proxy.applied_revision == 0, "{proxy:?}");
    first.shutdown().await;

    let second = place.start(&clock).await?;
    let proxy = listed(&second, |it| !it.connected).await?;
    let is_named = proxy.rejected_errors.iter().any(|it| it.field == "definition");
    ensure!(is_named, "{proxy:?}");
    ensure!(proxy.capabilities == ["stdio-host"] && proxy.version == "9", "{proxy:?}");
    let mut stub = Stub::connect(&second, 1, None).await?;
    ensure!(stub.update().await?.is_none(), "it was refused");
    let mut stub = Stub::connect(&second, 2, None).await?;
    let (_, target) = stub.update().await?.context("a new life may try again")?;
    stub.answer(target.clone(), wire::Outcome::Active).await?;
    let proxy = listed(&second, |it| it.applied_revision == target.revision).await?;
    ensure!(proxy.rejected_revision == 0 && proxy.rejected_errors.is_empty(), "{proxy:?}");
    let refused = Stub::connect(&second, 1, Some(target)).await?.update().await;
    ensure!(refused.is_err(), "an older life is not served");
    drop(stub);
    listed(&second, |it| !it.connected && it.apply_ms == 7).await?;
    second.shutdown().await;
    Ok(())
}
