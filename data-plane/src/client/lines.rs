//! Standard input and output of a bridge: a message per line.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::lines::Line;
use crate::lines::Lines;

/// What the client is told, one line each.
pub type Messages = mpsc::Receiver<Bytes>;

/// Longest line, in bytes.
const LINE_MAX: usize = 16 << 20;

/// How long the last lines may wait to be taken after the client has gone.
const LATE: Duration = Duration::from_secs(5);

/// What the client writes. It is known that the client has gone before its last lines are taken.
#[derive(Debug)]
pub struct Input {
    lines: mpsc::Receiver<Line>,
    gone: CancellationToken,
}

/// Where the client's lines come from. Dropped, the client has gone.
#[derive(Debug)]
pub struct Feed {
    lines: mpsc::Sender<Line>,
    _gone: DropGuard,
}

/// An input of which so many lines may wait.
pub fn input(waiting_max: usize) -> (Feed, Input) {
    let (lines, taken) = mpsc::channel(waiting_max);
    let gone = CancellationToken::new();
    let feed = Feed { lines, _gone: gone.clone().drop_guard() };
    (feed, Input { lines: taken, gone })
}

impl Feed {
    /// Waits until there is room for a line; false if nobody takes any more.
    pub(super) async fn send(&self, line: Line) -> bool {
        self.lines.send(line).await.is_ok()
    }
}

impl Input {
    pub(super) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// How long its last lines may wait.
    pub(super) fn patience(&self) -> Patience {
        Patience(self.gone.clone())
    }
}

/// Ends a while after the client has gone.
pub(super) struct Patience(CancellationToken);

impl Patience {
    /// Waits until all lines are taken. False: the client's last ones could not be in time.
    pub(super) async fn wait(self, taking: impl Future<Output = ()>) -> bool {
        let late = async {
            self.0.cancelled().await;
            tokio::time::sleep(LATE).await;
        };
        tokio::select! {
            () = taking => true,
            () = late => {
                tracing::warn!("the client has gone: its last lines were not sent, the server is slow");
                false
            }
        }
    }
}

/// Gives every line of `input` until its end, or until nobody takes them.
pub async fn read(input: impl AsyncRead + Unpin, lines: Feed) {
    let mut input = Lines::new(input, LINE_MAX);
    while let Some(line) = input.next().await {
        if !lines.send(line).await {
            return;
        }
    }
}

/// Writes every message as a line; returns when there are no more or nobody reads.
pub async fn write(mut output: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        let mut line = BytesMut::from(&*message);
        line.extend_from_slice(b"\n");
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            messages in prop::collection::vec("[!-~][ -~é]{0,20}[!-~]", 0..8),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(async {
                let (sender, taken) = mpsc::channel(9);
                for message in &messages {
                    sender.send(Bytes::copy_from_slice(message.as_bytes())).await.unwrap();
                }
                drop(sender);
                let mut output = Vec::new();
                write(&mut output, taken).await;
                let (lines, mut taken) = input(9);
                read(&*output, lines).await;
                let mut all = Vec::new();
                while let Some(Line::Whole(line)) = taken.next().await {
                    all.push(line);
                }
                all
            });
            prop_assert_eq!(read, messages);
        }
    }

    #[tokio::test]
    async fn every_message_is_a_line() {
        let (messages, taken) = mpsc::channel(9);
        for message in ["{}", "[]"] {
            messages.send(Bytes::from_static(message.as_bytes())).await.unwrap();
        }
        drop(messages);
        let mut output = Vec::new();
        write(&mut output, taken).await;
        assert_eq!(output, b"{}\n[]\n");
    }
}
