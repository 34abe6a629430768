//! Connections of other proxies: TLS both ways, and requests of clients inside.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderName, Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora::{protocols::Stream, server::ShutdownWatch};
use tokio::time::timeout;

use super::holder;
use crate::{
    connection::{Door, closed},
    edge::{Client, Edge},
    stream::Requests,
};

/// The address of the client whose request a proxy passes on.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("lockgate-client");

/// Requests of one proxy at the same time, idle streams included.
const STREAMS: u32 = 20_000;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 32 << 20;
const PING: Duration = Duration::from_secs(5);

/// Serves the connection of another proxy for as long as that one is trusted.
pub(crate) async fn serve(
    edge: &Arc<Edge>,
    session: Stream,
    address: SocketAddr,
    closing: ShutdownWatch,
) -> Option<()> {
    let Some(acceptor) = edge.peers().acceptor() else {
        tracing::debug!(%address, "no certificate yet: another proxy is turned away");
        return None;
    };
    let accepted = timeout(edge.timeouts().head, acceptor.accept(session)).await.ok()?;
    let stream = accepted
        .inspect_err(|error| tracing::warn!(%address, %error, "refused a connection of a proxy"))
        .ok()?;
    let certificate = stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned();
    let proxy = edge.current().load().and_then(|table| holder(&table, &certificate));
    let Some(proxy) = proxy else {
        tracing::warn!(%address, "refused a proxy that is not known, or is revoked");
        return None;
    };
    edge.upstreams().settle();
    let service = {
        let (edge, requests) = (Arc::clone(edge), Arc::<Requests>::default());
        service_fn(move |request: Request<Incoming>| {
            let (edge, served) = (Arc::clone(&edge), requests.start());
            let answer: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                let client = Client::new(client_address(&request, address), Door::Peer);
                edge.serve(request, &client, served).await
            });
            answer
        })
    };
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(1024)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = distrusted(edge, &proxy.id) => {
            tracing::warn!(%address, proxy_id = proxy.id, "closed the connection of a revoked proxy");
            return None;
        }
        () = ending(closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "the connection of a proxy has ended");
    }
    Some(())
}

async fn ending(mut closing: ShutdownWatch) {
    closed(&mut closing).await;
}

/// Returns when the proxy is no longer among those to be trusted.
async fn distrusted(edge: &Edge, proxy_id: &str) {
    let mut position = edge.current().watch();
    loop {
        position.mark_unchanged();
        if edge.current().load().is_none_or(|table| table.proxy(proxy_id).is_none()) {
            return;
        }
        if position.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The client, as the other proxy saw it.
fn client_address(request: &Request<Incoming>, proxy: SocketAddr) -> SocketAddr {
    let given = request.headers().get(CLIENT).and_then(|value| value.to_str().ok());
    given.and_then(|text| text.parse().ok()).unwrap_or(proxy)
}
