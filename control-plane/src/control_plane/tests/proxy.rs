//! A proxy in a few lines: it takes every update and finds what it is told to find.

use std::time::Duration;

use futures_util::StreamExt as _;
use proto::wire::{
    self, ProxyMessage, ReportMessage, proxy_message, report_message,
    reports_client::ReportsClient, sync_client::SyncClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Fixture;

/// What every discovery finds.
pub(super) type Found = wire::catalog_report::Result;

/// A catalog with one tool.
pub(super) fn catalog(tool: &str) -> Found {
    let definition = format!(r#"{{"name":"{tool}","inputSchema":{{"type":"object"}}}}"#);
    Found::Catalog(wire::Catalog {
        era: wire::Era::Legacy.into(),
        protocol_version: "2025-11-25".to_owned(),
        tools: vec![wire::CatalogTool { name: tool.to_owned(), definition, ..Default::default() }],
        ..Default::default()
    })
}

pub(super) fn refused() -> Found {
    let message = "connection refused".to_owned();
    let reason = wire::FailureReason::Connect.into();
    Found::Failure(wire::DiscoveryFailure { reason, message })
}

/// Connects a proxy that lives as long as the control plane.
pub(super) fn connect(fixture: &Fixture, found: Found) {
    let channel = connect_slow(fixture, Duration::ZERO);
    fixture.control_plane.tasks.detach(report(channel, found));
}

/// Connects one that takes its time over an update, and reports nothing.
pub(super) fn connect_slow(fixture: &Fixture, delay: Duration) -> Channel {
    let channel = fixture.control_plane.local_channel();
    fixture.control_plane.tasks.detach(follow(channel.clone(), delay));
    channel
}

async fn follow(channel: Channel, delay: Duration) {
    let (sender, messages) = mpsc::channel(8);
    let send = |message| {
        let (sender, message) = (sender.clone(), ProxyMessage { message: Some(message) });
        async move { sender.send(message).await.ok() }
    };
    let hello = wire::Hello { proxy_id: "p1".to_owned(), boot_epoch: 1, ..Default::default() };
    send(proxy_message::Message::Hello(hello)).await;
    let stream = SyncClient::new(channel).sync(ReceiverStream::new(messages)).await;
    let mut stream = stream.unwrap().into_inner();
    while let Some(Ok(message)) = stream.next().await {
        let Some(wire::control_message::Message::Update(update)) = message.message else {
            continue;
        };
        if update.last {
            tokio::time::sleep(delay).await;
            let outcome = wire::Outcome::Active.into();
            let applied = wire::Applied { position: update.target, outcome, ..Default::default() };
            send(proxy_message::Message::Applied(applied)).await;
        }
    }
}

async fn report(channel: Channel, found: Found) {
    let (sender, messages) = mpsc::channel(8);
    let hello = wire::ReportHello { proxy_id: "p1".to_owned(), boot_epoch: 1 };
    let hello = report_message::Message::Hello(hello);
    sender.send(ReportMessage { message: Some(hello) }).await.unwrap();
    let stream = ReportsClient::new(channel).report(ReceiverStream::new(messages)).await;
    let mut stream = stream.unwrap().into_inner();
    while let Some(Ok(directive)) = stream.next().await {
        let Some(wire::report_directive::Directive::Discover(wanted)) = directive.directive else {
            continue;
        };
        let wire::Discover { lease_id, upstream_id, .. } = wanted;
        let report = wire::CatalogReport { lease_id, upstream_id, result: Some(found.clone()) };
        let message = Some(report_message::Message::Catalog(report));
        sender.send(ReportMessage { message }).await.ok();
    }
}
