//! One stream of reports: results and news in, discoveries out.

use futures_util::StreamExt as _;
use proto::{Catalog, resource::EndedSession, upstream::FailureReason, wire};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{HELLO, Outbox, SyncApi, is_itself, is_trusted, revoked};
use crate::{
    discovery::{Reporting, schedule::Health},
    identity::ProxyCaller,
    peers::Peers,
};

/// Largest report: a catalog with its definitions.
pub(super) const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// Serves the stream until either side ends it.
pub(super) async fn serve(
    api: SyncApi,
    caller: ProxyCaller,
    mut inbox: Streaming<wire::ReportMessage>,
    outbox: Outbox<wire::ReportDirective>,
    stop: CancellationToken,
) -> Result<(), Status> {
    use wire::report_message::Message;
    let mut expelled = api.fleet.expelled();
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO, inbox.next()) => first,
        () = stop.cancelled() => return Ok(()),
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no hello in time"))?;
    let Some(first) = first.transpose()? else { return Ok(()) };
    let Some(Message::Hello(wire::ReportHello { proxy_id, boot_epoch: _ })) = first.message else {
        return Err(Status::invalid_argument("the first message must be a hello"));
    };
    is_itself(&caller, &proxy_id)?;
    if !is_trusted(&api, &caller).await? {
        return Err(revoked());
    }
    let (reporting, mut discoveries) = api.discovery.report(&proxy_id);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Ok(()) = expelled.changed() => if !is_trusted(&api, &caller).await? {
                return Err(revoked());
            },
            message = inbox.next() => match message {
                None => return Ok(()),
                Some(message) => take(&reporting, &api.peers, message?).await?,
            },
            discover = discoveries.recv() => {
                // A newer stream of the same proxy has taken over.
                let Some(discover) = discover else { return Ok(()) };
                let directive = wire::report_directive::Directive::Discover(discover);
                let directive = wire::ReportDirective { directive: Some(directive) };
                if outbox.send(Ok(directive)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn take(
    reporting: &Reporting,
    peers: &Peers,
    message: wire::ReportMessage,
) -> Result<(), Status> {
    use wire::report_message::Message;
    match message.message {
        Some(Message::Catalog(report)) => catalog(reporting, report).await?,
        Some(Message::Stale(wire::CatalogStale { upstream_id })) => reporting.stale(&upstream_id),
        Some(Message::Health(wire::HealthReport { upstreams })) => {
            for wire::UpstreamHealth { upstream_id, up, message } in upstreams {
                tracing::debug!(upstream_id, up, message, "the health of an upstream");
                reporting.health(&upstream_id, if up { Health::Up } else { Health::Down });
            }
        }
        Some(Message::SessionsEnded(wire::SessionsEnded { sessions })) => {
            let sessions = sessions.into_iter().map(EndedSession::try_from);
            let sessions: Result<Vec<_>, _> = sessions.collect();
            let sessions =
                sessions.map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
            peers.end_sessions(&sessions).await?;
        }
        Some(Message::Hello(_)) => return Err(Status::invalid_argument("a second hello")),
        // From a newer proxy.
        None => {}
    }
    Ok(())
}

async fn catalog(reporting: &Reporting, report: wire::CatalogReport) -> Result<(), Status> {
    use wire::catalog_report::Result as Found;
    let wire::CatalogReport { lease_id, upstream_id: _, result } = report;
    let found = match result {
        Some(Found::Catalog(catalog)) => {
            Catalog::try_from(catalog).map_err(|invalid| (FailureReason::List, invalid.to_string()))
        }
        Some(Found::Failure(wire::DiscoveryFailure { reason, message })) => {
            Err((FailureReason::from_wire(reason).unwrap_or(FailureReason::List), message))
        }
        None => return Err(Status::invalid_argument("a catalog report without result")),
    };
    Ok(reporting.found(&lease_id, found).await?)
}
