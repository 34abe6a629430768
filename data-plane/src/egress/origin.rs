//! Connections to one origin, kept for the next request.
//!
//! Every call to an upstream comes through here, so it does no more than it must: no key is
//! hashed, no host is written anew, nobody waits for a connection that is about to be free.

mod shared;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::client::legacy::connect::Connection as _;
use parking_lot::Mutex;
use tower::Service as _;

use self::shared::{Place, Shared};
use super::{Connector, EgressError, Stopped, chain, outgoing::Outgoing};
use crate::mcp::Pieces;

/// Free connections that are kept.
const FREE_MAX: usize = 256;
/// A connection that nobody used between two of these ends.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// There is no connection; nothing was sent.
    Unreachable(Arc<EgressError>),
    /// The connection broke; the request may have arrived.
    Broken(String),
}

/// One scheme, host and port, behind the door.
pub(crate) struct Origin {
    connector: Connector,
    /// As requests name it; without it none can be sent.
    host: Option<HeaderValue>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    free: Vec<Free>,
    /// Carry many requests at once.
    shared: Vec<Shared>,
    /// Counts sweeps.
    now: u64,
    is_swept: bool,
}

struct Free {
    sender: http1::SendRequest<Outgoing>,
    /// The sweep after which it became free.
    since: u64,
}

/// A connection that can take a request.
enum Sender {
    Own(http1::SendRequest<Outgoing>),
    Shared(Place),
}

/// An answer's body. Read to its end, it gives its connection back; dropped before, too, unless
/// more than what has arrived is missing: then the connection ends.
#[derive(Debug)]
pub(crate) struct OriginBody {
    inner: Incoming,
    lease: Option<Lease>,
}

/// What an answer holds of its connection.
#[derive(Debug)]
enum Lease {
    Own(Arc<Origin>, http1::SendRequest<Outgoing>),
    Shared { _place: Place },
}

impl Origin {
    /// The origin of `uri`.
    pub(super) fn new(connector: Connector, uri: &Uri) -> Arc<Self> {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().filter(|port| *port != default);
        let host = uri.host().and_then(|host| match port {
            Some(port) => format!("{host}:{port}").try_into().ok(),
            None => host.try_into().ok(),
        });
        Arc::new(Self { connector, host, kept: Mutex::default() })
    }

    /// Sends a request to `uri`, which is of this origin, and waits for the head of its answer.
    pub(crate) async fn send(
        self: &Arc<Self>,
        (method, uri): (Method, &Uri),
        headers: HeaderMap,
        body: Pieces,
    ) -> Result<Response<OriginBody>, SendError> {
        let mut request = Request::new(Outgoing::from(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        loop {
            let (sender, is_fresh) = match self.take() {
                Some(sender) => (sender, false),
                None => (Box::pin(self.open(uri)).await?, true),
            };
            let mut unsent = match self.try_send(sender, uri, request).await {
                Ok(response) => return Ok(response),
                Err(unsent) => unsent,
            };
            request = match unsent.take_message() {
                // A connection that closed while it was free has taken nothing.
                Some(request) if !is_fresh => request,
                Some(_) | None => return Err(SendError::Broken(chain(unsent.error()))),
            };
        }
    }

    async fn try_send(
        self: &Arc<Self>,
        sender: Sender,
        uri: &Uri,
        mut request: Request<Outgoing>,
    ) -> Result<Response<OriginBody>, TrySendError<Request<Outgoing>>> {
        match sender {
            Sender::Own(mut sender) => {
                let path = uri.path_and_query().cloned();
                *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
                if let Some(host) = &self.host {
                    request.headers_mut().insert(header::HOST, host.clone());
                }
                let response = sender.try_send_request(request).await?;
                let lease = Lease::Own(Arc::clone(self), sender);
                Ok(response.map(|inner| OriginBody::new(inner, lease)))
            }
            Sender::Shared(mut place) => {
                request.headers_mut().remove(header::HOST);
                *request.uri_mut() = uri.clone();
                *request.version_mut() = http::Version::HTTP_2;
                let response = place.sender.try_send_request(request).await?;
                let lease = Lease::Shared { _place: place };
                Ok(response.map(|inner| OriginBody::new(inner, lease)))
            }
        }
    }

    fn take(&self) -> Option<Sender> {
        let mut kept = self.kept.lock();
        let now = kept.now;
        if let Some(place) = kept.shared.iter_mut().find_map(|shared| shared.place(now)) {
            return Some(Sender::Shared(place));
        }
        // The last one first: it is warm, and the others may end.
        let at = kept.free.iter().rposition(|free| free.sender.is_ready())?;
        Some(Sender::Own(kept.free.swap_remove(at).sender))
    }

    fn put(self: &Arc<Self>, sender: http1::SendRequest<Outgoing>) {
        if sender.is_closed() {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.free.len() >= FREE_MAX {
            kept.free.retain(|free| !free.sender.is_closed());
        }
        if kept.free.len() < FREE_MAX {
            let since = kept.now;
            kept.free.push(Free { sender, since });
        }
        self.have_swept(&mut kept);
    }

    fn have_swept(self: &Arc<Self>, kept: &mut Kept) {
        if !std::mem::replace(&mut kept.is_swept, true) {
            let origin = Arc::downgrade(self);
            self.connector.home.handle().spawn(sweep(origin));
        }
    }

    async fn open(self: &Arc<Self>, uri: &Uri) -> Result<Sender, SendError> {
        let stream = self.connector.clone().call(uri.clone()).await.map_err(|error| match error
            .downcast::<Stopped>(
        ) {
            Ok(stopped) => SendError::Unreachable(stopped.0),
            Err(error) => SendError::Broken(chain(&*error)),
        })?;
        let broken = |error: hyper::Error| SendError::Broken(chain(&error));
        let home = self.connector.home.handle();
        if stream.connected().is_negotiated_h2() {
            let mut shared = Shared::open(stream, &home).await.map_err(broken)?;
            let mut kept = self.kept.lock();
            if let Some(place) = shared.place(kept.now) {
                kept.shared.push(shared);
                self.have_swept(&mut kept);
                return Ok(Sender::Shared(place));
            }
            return Err(SendError::Broken("it takes no requests".to_owned()));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        home.spawn(connection);
        Ok(Sender::Own(sender))
    }
}

/// Ends connections that nobody uses, until none is left.
async fn sweep(origin: Weak<Origin>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(origin) = origin.upgrade() else { return };
        let mut kept = origin.kept.lock();
        let now = kept.now;
        kept.free.retain(|free| free.since == now && !free.sender.is_closed());
        kept.shared.retain(|shared| shared.is_used(now));
        kept.now += 1;
        if kept.free.is_empty() && kept.shared.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Origin").field("host", &self.host).finish_non_exhaustive()
    }
}

impl OriginBody {
    fn new(inner: Incoming, lease: Lease) -> Self {
        let mut body = Self { inner, lease: Some(lease) };
        if body.inner.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(Lease::Own(origin, sender)) = self.lease.take() {
            origin.put(sender);
        }
    }
}

impl Drop for OriginBody {
    fn drop(&mut self) {
        // It is ready for a request only when hyper has found the end of the answer in what has
        // arrived; if hyper has not, it closes the connection.
        self.give_back();
    }
}

impl http_body::Body for OriginBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !self.inner.is_end_stream() => {}
            Some(Ok(_)) | None => self.give_back(),
            Some(Err(_)) => self.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
