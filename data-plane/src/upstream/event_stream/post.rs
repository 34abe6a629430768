//! Posts messages in their order; a slow server delays the next one only for a moment.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::{
    mcp::{Kind, Message, message::parse},
    upstream::{
        failure::CallFailure,
        fetch::{self, Bounds},
        http::{Endpoint, is_session_lost},
        pipe::Connection,
    },
};

/// How long a server may take to accept a message, unless somebody waits for its answer.
pub(super) const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// Some servers accept a request only when it is done: after this the next one follows.
const ORDER_PATIENCE: Duration = Duration::from_millis(250);
/// Messages of one session that may be under way at once.
const UNDER_WAY_MAX: usize = 64;

/// Posts until nobody sends any more. Dropped, it gives up what is under way.
pub(super) async fn post_all(
    endpoint: Arc<Endpoint>,
    mut input: mpsc::Receiver<Bytes>,
    connection: Arc<Connection>,
) {
    let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut under_way = JoinSet::new();
    while let Some(message) = input.recv().await {
        while under_way.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (endpoint, connection) = (Arc::clone(&endpoint), Arc::clone(&connection));
        under_way.spawn(async move {
            let mut place = Some(place);
            let mut posting = pin!(post(&endpoint, message.clone()));
            let posted = loop {
                match tokio::time::timeout(POST_TIMEOUT, &mut posting).await {
                    Ok(posted) => break posted,
                    // It is at work, and what follows may be what it waits for.
                    Err(_) if is_awaited(&connection, &message) => drop(place.take()),
                    Err(_) => break Ok(()),
                }
            };
            if let Err(failure) = posted {
                refused(&connection, message, failure);
            }
        });
        tokio::time::timeout(ORDER_PATIENCE, under_way.join_next()).await.ok();
    }
}

async fn post(endpoint: &Endpoint, message: Bytes) -> Result<(), CallFailure> {
    let bounds = Bounds::of_call(&endpoint.limits).patient();
    let headers: HeaderMap = endpoint.template().clone();
    let response = endpoint.send(Method::POST, headers, message.into(), &bounds).await?;
    let status = response.status();
    let bounds = Bounds::of_step(&endpoint.limits, POST_TIMEOUT);
    // Read to the end, so that the connection can be used again.
    let body = fetch::read_refusal(response.into_body(), &bounds).await;
    match status.as_u16() {
        _ if status.is_success() => Ok(()),
        _ if is_session_lost(status, &body) => Err(CallFailure::SessionLost),
        code @ (401 | 403) => Err(CallFailure::Auth { status: code }),
        code => Err(CallFailure::HttpStatus { status: code, excerpt: fetch::excerpt(&body) }),
    }
}

/// Whether a message is a request whose answer is waited for.
fn is_awaited(connection: &Connection, message: &Bytes) -> bool {
    let is_request = |message: &Message| matches!(message.kind, Kind::Request(_));
    parse(message.clone())
        .is_ok_and(|message| is_request(&message) && connection.is_awaited(message.id()))
}

/// The server did not take a message: whoever waits for its answer waits no more.
fn refused(connection: &Connection, message: Bytes, failure: CallFailure) {
    let is_lost = matches!(failure, CallFailure::SessionLost);
    match parse(message) {
        Ok(message) if matches!(message.kind, Kind::Request(_)) => {
            connection.fail(message.id(), failure);
        }
        // Some servers do not take notifications.
        Ok(_) | Err(_) => tracing::debug!(%failure, "an upstream refused a message"),
    }
    if is_lost {
        connection.end(CallFailure::Broken("it lost the session".to_owned()));
    }
}
