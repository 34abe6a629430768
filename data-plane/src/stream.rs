//! A client's connection with the timers that hyper lacks.
//!
//! hyper's own header timer also runs while a kept-alive connection waits for
//! its next request, so it cannot tell a slow head from an idle client. This
//! wrapper can: it counts the requests that the service has started and
//! finished, and from that knows what the bytes it reads belong to.

mod requests;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

pub(crate) use self::requests::{Requests, Served};

/// The first bytes of every HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sent to a client whose request head does not end in time.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long no request has come when a connection is left with nothing but its socket: at most so
/// long, and so long for each request that it has brought. Of many connections that come at once the
/// first give back their memory before the last need it; those that are busy are looked at seldom.
const LULL: Duration = Duration::from_secs(1);
const LULL_STEP: Duration = Duration::from_millis(25);

/// Bytes read of the request that ends a lull, before there is more to read with.
const FIRST: usize = 64;

/// How long a refused client may go on sending.
const LINGER: Duration = Duration::from_secs(1);

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The two deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    /// From the first byte of a head to its end.
    pub(crate) head: Duration,
    /// Without a request, or without reading the answer.
    pub(crate) idle: Duration,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first byte of the request after so many.
    Request(u32),
    /// The rest of the head of the request after so many.
    Head(u32),
    /// The service.
    Service,
}

/// A stream that ends with `TimedOut` when its client is too slow.
#[derive(Debug)]
pub(crate) struct Timed<S> {
    inner: S,
    requests: Arc<Requests>,
    timers: Timers,
    protocol: Protocol,
    /// Read already, to find the protocol.
    prefix: Vec<u8>,
    prefix_read: usize,
    wait: Wait,
    /// When `wait` ends in an error.
    deadline: Option<Instant>,
    /// When it counts as a lull that no request comes.
    lull_at: Option<Instant>,
    /// How long nobody looks whether the service has ended.
    look: Duration,
    /// When the client must have taken some of the answer.
    write_deadline: Option<Instant>,
    linger_end: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Timed<S> {
    /// Waits for the first bytes and tells the protocol by them.
    pub(crate) async fn open(inner: S, timers: Timers) -> io::Result<(Self, Arc<Requests>)> {
        let requests = Arc::new(Requests::default());
        let now = Instant::now();
        let mut stream = Self {
            inner,
            requests: Arc::clone(&requests),
            timers,
            protocol: Protocol::Http1,
            prefix: Vec::new(),
            prefix_read: 0,
            wait: Wait::Request(0),
            deadline: Some(now + timers.idle),
            lull_at: None,
            look: LULL_STEP,
            write_deadline: None,
            linger_end: None,
            sleep: Box::pin(tokio::time::sleep_until(now + LULL_STEP.min(timers.idle))),
        };
        stream.read_prefix().await?;
        if stream.prefix.starts_with(PREFACE) {
            stream.protocol = Protocol::Http2;
            stream.wait = Wait::Request(0);
            stream.deadline = None;
        }
        Ok((stream, requests))
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Waits for the next request with nothing but the socket. `unread` was read already.
    pub(crate) async fn lull(&mut self, unread: Bytes) -> io::Result<()> {
        self.prefix = unread.into();
        self.prefix_read = 0;
        if self.prefix.is_empty() {
            let mut first = Vec::with_capacity(FIRST);
            if self.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.prefix = first;
        }
        self.requests.end_lull();
        Ok(())
    }

    /// Reads until the preface is complete or something else.
    async fn read_prefix(&mut self) -> io::Result<()> {
        let mut prefix = Vec::with_capacity(1024);
        loop {
            let count = self.read_buf(&mut prefix).await?;
            let common = prefix.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
            if count == 0 || common < prefix.len() || common == PREFACE.len() {
                self.prefix = prefix;
                return Ok(());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Timed<S> {
    /// Judges a read that gave bytes.
    fn bytes_came(&mut self) {
        match self.current() {
            Wait::Request(count) if self.protocol == Protocol::Http1 => {
                self.wait = Wait::Head(count);
                self.deadline = None;
            }
            Wait::Request(_) | Wait::Head(_) | Wait::Service => {}
        }
    }

    /// What the connection waits for now, after what the service did since the last look.
    fn current(&mut self) -> Wait {
        let started = self.requests.started();
        let wait = match self.wait {
            Wait::Head(count) if started == count => self.wait,
            _ if !self.requests.are_done() => Wait::Service,
            _ => Wait::Request(started),
        };
        if wait != self.wait {
            self.wait = wait;
            self.deadline = None;
            self.lull_at = None;
            self.look = self.lull_after(started.max(1));
        }
        wait
    }

    /// Gives an error once a deadline has passed; else sees to it that the task wakes for it.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let wait = self.current();
        if self.deadline.is_none() {
            self.set_deadline(wait);
        }
        loop {
            let over = [self.deadline, self.write_deadline].into_iter().flatten().min();
            let next = over.into_iter().chain(self.lull_at).min();
            if let Some(next) = next.filter(|next| self.sleep.deadline() > *next) {
                self.sleep.as_mut().reset(next);
            }
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if over.is_some_and(|over| now >= over) {
                if matches!(wait, Wait::Head(_)) {
                    // A courtesy: the connection ends either way.
                    drop(Pin::new(&mut self.inner).poll_write(cx, REQUEST_TIMEOUT));
                }
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            let is_quiet = self.lull_at.take_if(|lull_at| now >= *lull_at).is_some();
            // What is still to be written is in hyper's hands.
            if is_quiet && self.write_deadline.is_none() {
                self.requests.begin_lull();
            }
            // The service may end without another read, so look again, ever less often. That
            // costs less than to set the timer for each request.
            let again = over.into_iter().chain(self.lull_at).min().unwrap_or_else(|| {
                self.look = (self.look * 2).min(self.timers.idle);
                now + self.look
            });
            self.sleep.as_mut().reset(again);
        }
    }

    fn set_deadline(&mut self, wait: Wait) {
        let now = Instant::now();
        self.deadline = match wait {
            Wait::Request(_) => Some(now + self.timers.idle),
            Wait::Head(_) => Some(now + self.timers.head),
            Wait::Service => None,
        };
        self.lull_at = match wait {
            Wait::Request(count @ 1..) if self.protocol == Protocol::Http1 => {
                Some(now + self.lull_after(count))
            }
            Wait::Request(_) | Wait::Head(_) | Wait::Service => None,
        };
    }

    fn lull_after(&self, requests: u32) -> Duration {
        LULL_STEP.saturating_mul(requests).min(LULL).min(self.timers.idle / 2)
    }

    /// Reads what a refused client still sends, for a moment.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead,
    {
        let end = *self.linger_end.get_or_insert_with(|| Instant::now() + LINGER);
        let mut chunk = [0; 4096];
        for _ in 0..16 {
            let mut buffer = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    self.sleep.as_mut().reset(end);
                    return self.sleep.as_mut().poll(cx);
                }
            }
        }
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Judges a write: progress clears the deadline, a full socket sets it.
    fn judge_write<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        if self.write_deadline.is_none() {
            self.write_deadline = Some(Instant::now() + self.timers.idle);
        }
        self.poll_deadlines(cx).map(Err)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.prefix.get(this.prefix_read..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..count).unwrap_or_default());
            this.prefix_read += count;
            if this.prefix_read == this.prefix.len() {
                this.prefix = Vec::new();
                this.prefix_read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    this.bytes_came();
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_deadlines(cx).map(Err),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge_write(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.judge_write(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge_write(result, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        // A close with unread bytes resets the connection, and the client loses our answer.
        if matches!(self.wait, Wait::Head(_)) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
