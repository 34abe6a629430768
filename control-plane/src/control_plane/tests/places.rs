//! Many proxies that begin with nothing are sent all there is by and by.

use std::time::Duration;

use futures_util::StreamExt as _;
use proto::wire::{self, ProxyMessage, control_message, proxy_message, sync_client::SyncClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Fixture;
use crate::api::sync::SNAPSHOTS_MAX;

const SOON: Duration = Duration::from_secs(20);

/// A proxy that answers when it is told to.
struct Proxy {
    say: mpsc::Sender<ProxyMessage>,
    stream: Streaming<wire::ControlMessage>,
    /// What it has been sent.
    received: u64,
}

impl Proxy {
    async fn connect(fixture: &Fixture, number: usize) -> Self {
        let (say, messages) = mpsc::channel(8);
        let proxy_id = format!("p{number}");
        let hello = wire::Hello { proxy_id, boot_epoch: 1, ..Default::default() };
        let message = Some(proxy_message::Message::Hello(hello));
        say.send(ProxyMessage { message }).await.unwrap();
        let mut client = SyncClient::new(fixture.control_plane.local_channel());
        let stream = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { say, stream, received: 0 }
    }

    /// What is sent next: the last part of an update, or a beat.
    async fn next(&mut self) -> Option<wire::Update> {
        loop {
            let message = tokio::time::timeout(SOON, self.stream.next()).await;
            match message.unwrap().unwrap().unwrap().message.unwrap() {
                control_message::Message::Update(update) if update.last => {
                    self.received = update.target.as_ref().unwrap().revision;
                    return Some(update);
                }
                control_message::Message::Beat(beat) => {
                    assert!(beat.head_revision <= self.received, "it was not sent that");
                    return None;
                }
                control_message::Message::Update(_) | control_message::Message::Goodbye(_) => {}
            }
        }
    }

    async fn update(&mut self) -> wire::Update {
        loop {
            if let Some(update) = self.next().await {
                return update;
            }
        }
    }

    async fn answer(&self, update: wire::Update) {
        let outcome = wire::Outcome::Active.into();
        let applied = wire::Applied { position: update.target, outcome, ..Default::default() };
        let message = Some(proxy_message::Message::Applied(applied));
        self.say.send(ProxyMessage { message }).await.unwrap();
    }
}

#[tokio::test]
async fn so_many_are_sent_all_at_a_time_and_the_others_hear_that_they_are_not_forgotten() {
    let fixture = Fixture::start().await;
    let mut served = Vec::new();
    for number in 0..SNAPSHOTS_MAX {
        let mut proxy = Proxy::connect(&fixture, number).await;
        let update = proxy.update().await;
        served.push((proxy, update));
    }
    let mut waiting = Proxy::connect(&fixture, SNAPSHOTS_MAX).await;
    assert!(waiting.next().await.is_none(), "there is no place for it");
    let (first, update) = served.remove(0);
    first.answer(update).await;
    let update = waiting.update().await;
    assert!(update.base.is_none());
    // Who goes away gives its place back, too.
    let mut next = Proxy::connect(&fixture, SNAPSHOTS_MAX + 1).await;
    assert!(next.next().await.is_none());
    drop(served.remove(0));
    next.update().await;
}
