//! Connections that carry many requests at once (HTTP/2, RFC 9113).

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{
    client::conn::http2,
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;

use crate::egress::outgoing::Outgoing;

/// How often, and for how long, it is asked whether the other end is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

type SendRequest = http2::SendRequest<Outgoing>;
type Connection<S> = http2::Connection<S, Outgoing, TokioExecutor>;

/// A connection and what is under way on it.
pub(super) struct Shared {
    sender: SendRequest,
    /// How many requests the server allows at once.
    allowed: Arc<AtomicUsize>,
    /// As many besides this one as there are requests without the end of their answer.
    places: Arc<()>,
    /// The sweep after which it was last chosen.
    used: u64,
}

/// One request's place on a connection.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) sender: SendRequest,
    _counted: Arc<()>,
}

impl Shared {
    /// Begins to speak HTTP/2 over `stream`, on the runtime `home`.
    pub(super) async fn open<S>(stream: S, home: &Handle) -> hyper::Result<Self>
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder.keep_alive_while_idle(true).handshake(stream).await?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        home.spawn(drive(connection, Arc::clone(&allowed)));
        Ok(Self { sender, allowed, places: Arc::default(), used: 0 })
    }

    /// A place for one more request. Beyond what the server allows, hyper would make requests
    /// wait behind those that go on for long.
    pub(super) fn place(&mut self, now: u64) -> Option<Place> {
        let under_way = Arc::strong_count(&self.places) - 1;
        if !self.sender.is_ready() || under_way >= self.allowed.load(Relaxed) {
            return None;
        }
        self.used = now;
        Some(Place { sender: self.sender.clone(), _counted: Arc::clone(&self.places) })
    }

    /// Whether anything is under way, or was since the sweep `now`.
    pub(super) fn is_used(&self, now: u64) -> bool {
        let is_busy = Arc::strong_count(&self.places) > 1;
        !self.sender.is_closed() && (is_busy || self.used == now)
    }
}

/// Runs a connection, and notes how many requests its server allows at once.
async fn drive<S>(mut connection: Connection<S>, allowed: Arc<AtomicUsize>)
where
    S: Read + Write + Unpin + Send + 'static,
{
    let ended = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        allowed.store(connection.current_max_send_streams(), Relaxed);
        ended
    });
    // Its requests have heard how it ended.
    ended.await.ok();
}
