//! From an accepted socket to hyper: which listener, how many of one address, which protocol.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use async_trait::async_trait;
use dashmap::{DashMap, Entry};
use hyper::{server::conn::http1::Parts, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora::{apps::ServerApp, protocols::Stream, server::ShutdownWatch};

use crate::{
    drain::Drain,
    edge::{Client, Edge},
    peer,
    stream::{Protocol, Requests, Timed, Timers},
    transport::body::WRITTEN_AT_ONCE,
};

/// What may enter through a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Reachable from other machines.
    Public,
    /// This machine only, so that `Host` is enforced against rebinding.
    Loopback,
    /// Health and metrics only.
    Ops,
    /// Other proxies, which pass on requests of their clients.
    Peer,
}

/// The listeners and their doors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(Vec<(SocketAddr, Door)>);

impl Doors {
    pub(crate) fn add(&mut self, address: SocketAddr, door: Door) {
        self.0.push((address, door));
    }

    /// The door of a connection by the address that it reached.
    fn of(&self, local: SocketAddr) -> Door {
        let exact = self.0.iter().find(|(address, _)| *address == local);
        let by_port = || {
            self.0.iter().find(|(address, _)| {
                address.port() == local.port() && address.ip().is_unspecified()
            })
        };
        exact.or_else(by_port).map_or(Door::Public, |(_, door)| *door)
    }

    pub(crate) fn all(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }

    /// Those for clients.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let is_public = |door: Door| matches!(door, Door::Public | Door::Loopback);
        let public = self.0.iter().filter(|(_, door)| is_public(*door));
        public.map(|(address, _)| *address).collect()
    }
}

/// The application that pingora gives connections to.
pub(crate) struct Front {
    edge: Arc<Edge>,
    doors: Doors,
    drain: Drain,
    per_ip: PerIp,
}

impl Front {
    pub(crate) fn new(edge: Arc<Edge>, doors: Doors, drain: Drain) -> Self {
        Self { edge, doors, drain, per_ip: PerIp::default() }
    }

    /// Serves one connection to its end. What few connections are is boxed, so that the others do
    /// not carry its size for as long as they last.
    async fn serve(&self, session: Stream, mut closing: ShutdownWatch) -> Option<()> {
        let digest = session.get_socket_digest()?;
        let address = *digest.peer_addr()?.as_inet()?;
        let local = *digest.local_addr()?.as_inet()?;
        let _held = self.drain.hold();
        let _counted =
            self.per_ip.enter(address.ip(), self.edge.connections_allowed(address.ip()))?;
        let _open = self.edge.telemetry().connection();
        if self.doors.of(local) == Door::Peer {
            return Box::pin(peer::door::serve(&self.edge, session, address, closing)).await;
        }
        let limits = self.edge.timeouts();
        let timers = Timers { head: limits.head, idle: limits.idle };
        let (stream, requests) = tokio::select! {
            opened = Timed::open(session, timers) => opened.ok()?,
            () = closed(&mut closing) => return None,
        };
        let stream = Box::new(stream);
        let client = Client::new(address, self.doors.of(local));
        self.edge.upstreams().settle();
        let result = match stream.protocol() {
            Protocol::Http1 => self.http1(stream, requests, client).await,
            Protocol::Http2 => Box::pin(self.http2(stream, requests, client)).await,
        };
        if let Err(error) = result {
            tracing::debug!(peer = %address, %error, "connection ended");
        }
        Some(())
    }

    /// Serves requests as they come. In a lull hyper's buffers are given back, which are most of
    /// what an idle connection costs.
    async fn http1(
        &self,
        mut stream: Box<Timed<Stream>>,
        requests: Arc<Requests>,
        client: Client,
    ) -> hyper::Result<()> {
        while let Some(lull) = self.until_lull(stream, &requests, &client).await? {
            let Parts { io, read_buf, .. } = lull;
            stream = io.into_inner();
            let mut woken = pin!(stream.lull(read_buf));
            // Ended by its client, by time, or because the proxy is about to end.
            if !matches!(self.drain.unless_closing(&mut woken).await, Some(Ok(()))) {
                return Ok(());
            }
        }
        if let Some(upgraded) = client.upgraded() {
            upgraded.await;
        }
        Ok(())
    }

    /// Gives what is left of the connection in a lull; nothing at its end.
    async fn until_lull(
        &self,
        stream: Box<Timed<Stream>>,
        requests: &Arc<Requests>,
        client: &Client,
    ) -> hyper::Result<Option<Parts<TokioIo<Box<Timed<Stream>>>, impl Sized>>> {
        let edge = &self.edge;
        let service = service_fn(|request| edge.serve(request, client, requests.start()));
        // Without `pipeline_flush`: with it hyper never flushes its own 400s and 431s.
        let connection = hyper::server::conn::http1::Builder::new()
            .max_header_size(edge.limits().head_bytes)
            .max_buf_size(WRITTEN_AT_ONCE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = Box::new(connection);
        let mut serving = poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if requests.is_lull() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match self.drain.unless_closing(&mut serving).await {
            Some(Some(ended)) => ended.map(|()| None),
            Some(None) => Ok(connection.into_parts()),
            None => {
                Pin::new(&mut *connection).graceful_shutdown();
                connection.await.map(|()| None)
            }
        }
    }

    async fn http2(
        &self,
        stream: Box<Timed<Stream>>,
        requests: Arc<Requests>,
        client: Client,
    ) -> hyper::Result<()> {
        let edge = Arc::clone(&self.edge);
        let head_bytes = u32::try_from(edge.limits().head_bytes).unwrap_or(u32::MAX);
        let client = Arc::new(client);
        let service = service_fn(move |request| {
            let served = requests.start();
            let (edge, client) = (Arc::clone(&edge), Arc::clone(&client));
            // Boxed, since HTTP/2 runs it on its own and needs to know that it may.
            let answer: Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { edge.serve(request, &client, served).await });
            answer
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_header_list_size(head_bytes)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(100)
            .keep_alive_interval(std::time::Duration::from_secs(20))
            .keep_alive_timeout(std::time::Duration::from_secs(20));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        if let Some(ended) = self.drain.unless_closing(&mut connection).await {
            return ended;
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        closing: &ShutdownWatch,
    ) -> Option<Stream> {
        self.serve(session, closing.clone()).await;
        None
    }
}

/// Resolves when the drain closes connections. The guard of `wait_for` must not be held.
pub(crate) async fn closed(closing: &mut ShutdownWatch) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Connections by address.
#[derive(Debug, Default)]
struct PerIp(Arc<DashMap<IpAddr, u32>>);

/// One counted connection.
#[derive(Debug)]
struct Counted {
    table: Arc<DashMap<IpAddr, u32>>,
    address: Option<IpAddr>,
}

impl PerIp {
    /// Counts a connection; None when the address has `allowed` already.
    fn enter(&self, address: IpAddr, allowed: Option<u32>) -> Option<Counted> {
        let Some(allowed) = allowed else {
            return Some(Counted { table: Arc::clone(&self.0), address: None });
        };
        let mut count = self.0.entry(address).or_insert(0);
        if *count >= allowed {
            tracing::warn!(%address, allowed, "connection refused: too many of one address");
            return None;
        }
        *count += 1;
        Some(Counted { table: Arc::clone(&self.0), address: Some(address) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut entry) = self.table.entry(address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_bound_and_gets_its_place_back() {
        let table = PerIp::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = table.enter(address, Some(2));
        let second = table.enter(address, Some(2));
        assert!(first.is_some() && second.is_some());
        assert!(table.enter(address, Some(2)).is_none());
        assert!(table.enter(address, None).is_some());
        drop(second);
        assert!(table.enter(address, Some(2)).is_some());
        drop(first);
        assert!(table.0.is_empty());
    }

    #[test]
    fn doors_are_found_by_address_then_by_port() {
        let mut doors = Doors::default();
        doors.add("127.0.0.1:1".parse().unwrap(), Door::Loopback);
        doors.add("0.0.0.0:2".parse().unwrap(), Door::Ops);
        assert_eq!(doors.of("127.0.0.1:1".parse().unwrap()), Door::Loopback);
        assert_eq!(doors.of("10.0.0.1:2".parse().unwrap()), Door::Ops);
        assert_eq!(doors.of("10.0.0.1:3".parse().unwrap()), Door::Public);
        assert_eq!(doors.addresses().len(), 1);
    }
}
