//! `subscriptions/listen`: one request that goes on telling its client of changes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::{
    engine::{Inbound, Served},
    error::Failure,
    mcp::subscription::Topics,
    route::{self, Client, Watched},
    sessions::{Subscription, listeners::Wanted},
    upstream::{SessionKey, Wish},
};

/// Begins a subscription. Its client is told what is honoured of it once all upstreams have
/// said what they will tell.
pub(super) fn listen(
    inbound: &Inbound<'_>,
    client: Client,
    topics: Topics,
    resources: Vec<Watched>,
) -> Result<Served, Failure> {
    let sender = &inbound.sender;
    // Changes of what all see are told by what all see.
    let view = route::view(&sender.table, &sender.endpoint)?;
    let owner = SessionKey::Principal {
        subject: Arc::clone(&sender.principal.subject),
        capabilities: client.capabilities.bits(),
    };
    let upstreams = sender.edge.upstreams();
    let subject = &*sender.principal.subject;
    let wished: Vec<(Subscription, Wish)> = resources
        .into_iter()
        .filter_map(|Watched { upstream_id, uri, shown }| {
            let wish = upstreams.wish(
                &upstream_id,
                (&owner, client.capabilities.into(), subject),
                &uri,
            )?;
            let upstream_id = (*upstream_id).into();
            Some((Subscription { upstream_id, uri, shown }, wish))
        })
        .collect();
    let wanted = Wanted {
        // Copied, since the request need not be kept for as long.
        id: Bytes::copy_from_slice(&inbound.id()),
        owner,
        capabilities: client.capabilities,
        topics,
        subscriptions: wished.iter().map(|(subscription, _)| subscription.clone()).collect(),
    };
    let honouring = Box::pin(async move {
        let kept = wished.into_iter().map(|(subscription, wish)| async move {
            match wish.kept().await {
                Ok(()) => Some((subscription, wish)),
                Err(failure) => {
                    tracing::debug!(%failure, uri = &*subscription.uri, "a listener will not hear");
                    None
                }
            }
        });
        join_all(kept).await.into_iter().flatten().collect()
    });
    let hearing = sender.edge.sessions().listen(view, wanted, honouring);
    // What came into force meanwhile was not told to it.
    if let Some(table) = sender.edge.current().load() {
        hearing.catch_up(&table);
    }
    Ok(Served::Listening(Box::new(hearing)))
}
