//! MCP over HTTP+SSE (2024-11-05): one event stream down, one POST per message up. The stream
//! is the session.

mod post;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    event_reader::EventReader,
    failure::CallFailure,
    fetch::Bounds,
    http::Endpoint,
    pipe::{Connection, Fresh, Guard, Link, Wanted},
    spawner::Listener as _,
};
use crate::egress::OriginBody;

/// How long the stream, its first event and the handshake may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first event may take once the stream is there: other streams may never give one.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the event stream of an upstream.
#[derive(Debug)]
pub(crate) struct EventStream {
    endpoint: Arc<Endpoint>,
}

impl EventStream {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Opens the stream, learns where to post, and greets the server.
    pub(crate) async fn open(&self, wanted: Wanted) -> Result<Link, CallFailure> {
        let Wanted { limits, health, owner, declared, era: _ } = wanted;
        let bounds = Bounds::of_step(&limits, OPEN_TIMEOUT);
        let mut stream = self.connect(&bounds).await?;
        let first = Bounds::of_step(&limits, ENDPOINT_TIMEOUT);
        let target = first.within(stream.endpoint(self.endpoint.uri())).await??;
        let (connection, input) = Connection::new(health, owner);
        let stop = CancellationToken::new();
        let reading = read(stream, Arc::clone(&connection));
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        let target = Arc::new(self.endpoint.at(target));
        let posting = post::post_all(target, input, Arc::clone(&connection));
        tokio::spawn(stop.clone().run_until_cancelled_owned(posting));
        let guard = Guard::Tasks { _stop: stop.drop_guard() };
        // This transport is older than the modern era, whatever version is negotiated over it.
        Fresh { connection, guard, bounds, declared }.greet_legacy().await
    }

    async fn connect(&self, bounds: &Bounds) -> Result<EventReader<OriginBody>, CallFailure> {
        let response = self.endpoint.listen(self.endpoint.template().clone(), None, bounds).await?;
        EventReader::of(response, bounds).await
    }
}

/// Hears messages until the stream ends.
async fn read(mut stream: EventReader<OriginBody>, connection: Arc<Connection>) {
    let failure = loop {
        match stream.next().await {
            Ok(Some(event)) if event.is_message() => connection.line(event.data),
            Ok(Some(_)) => (),
            Ok(None) => break CallFailure::Broken("it ended its event stream".to_owned()),
            Err(failure) => break failure,
        }
    };
    connection.end(failure);
}

#[cfg(test)]
mod tests;
