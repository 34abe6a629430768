//! Messages on a pipe (MCP, stdio): a line each, of bounded length.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::consume_budget,
};

/// How much is read at a time, in bytes.
const CHUNK: usize = 8 * 1024;

/// What stands on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The line without its end and the spaces before it. Never empty.
    Whole(Bytes),
    /// More than the limit; the rest of the line is skipped.
    TooLong { limit: usize },
}

/// Reads lines; empty ones are left out, and so is one without an end.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    limit: usize,
    buffer: BytesMut,
    /// Bytes of `buffer` that are known to hold no line end.
    scanned: usize,
    /// What comes is the rest of a line that was too long.
    is_skipping: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// A reader of lines of up to `limit` bytes.
    pub(crate) fn new(input: R, limit: usize) -> Self {
        let buffer = BytesMut::with_capacity(CHUNK);
        Self { input, limit, buffer, scanned: 0, is_skipping: false }
    }

    /// The next line; `None` at the end. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        loop {
            // One who never stops talking leaves room for others.
            consume_budget().await;
            if let Some(line) = self.complete() {
                return Some(line);
            }
            self.buffer.reserve(CHUNK);
            match self.input.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => (),
            }
        }
    }

    fn complete(&mut self) -> Option<Line> {
        let limit = self.limit;
        while let Some(found) =
            self.buffer.get(self.scanned..).and_then(|unseen| memchr::memchr(b'\n', unseen))
        {
            let mut line = self.buffer.split_to(self.scanned + found + 1);
            self.scanned = 0;
            line.truncate(line.trim_ascii_end().len());
            if std::mem::take(&mut self.is_skipping) || line.is_empty() {
                continue;
            }
            return Some(if line.len() > limit {
                Line::TooLong { limit }
            } else {
                Line::Whole(line.freeze())
            });
        }
        self.scanned = self.buffer.len();
        if self.scanned <= limit {
            return None;
        }
        self.buffer.clear();
        self.scanned = 0;
        let is_new = !std::mem::replace(&mut self.is_skipping, true);
        is_new.then_some(Line::TooLong { limit })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The lines of `input` when it comes through a pipe that holds `room` bytes.
    fn read_in_pieces(input: &[u8], room: usize, limit: usize) -> Vec<Line> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(room);
            let writing = async move { ours.write_all(input).await.unwrap() };
            let reading = async {
                let mut lines = Lines::new(theirs, limit);
                let mut all = Vec::new();
                while let Some(line) = lines.next().await {
                    all.push(line);
                }
                all
            };
            tokio::join!(writing, reading).1
        })
    }

    #[tokio::test]
    async fn others_have_their_turn_while_lines_come_without_end() {
        const MANY: usize = 10_000;
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let reading = tokio::spawn(async move {
            let input = b"{}\n".repeat(MANY);
            let mut lines = Lines::new(&*input, 10);
            while lines.next().await.is_some() {
                count.fetch_add(1, Relaxed);
            }
        });
        tokio::task::yield_now().await;
        assert!((1..1000).contains(&read.load(Relaxed)), "{read:?}");
        reading.await.unwrap();
        assert_eq!(read.load(Relaxed), MANY);
    }

    fn whole(line: &str) -> Line {
        Line::Whole(Bytes::copy_from_slice(line.as_bytes()))
    }

    proptest! {
        #[test]
        fn lines_cut_anywhere_are_the_same_lines(
            lines in prop::collection::vec("[ -~é]{0,20}", 0..8),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n"]), 8),
            tail in "[a-z]{0,8}",
            room in 1usize..40,
            limit in 5usize..60,
        ) {
            let written = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), *end]).collect::<String>();
            let expected: Vec<_> = lines
                .iter()
                .map(|line| line.trim_ascii_end())
                .filter(|line| !line.is_empty())
                .map(|line| if line.len() > limit { Line::TooLong { limit } } else { whole(line) })
                .collect();
            let mut read = read_in_pieces((written + &tail).as_bytes(), room, limit);
            // Spaces at the end count while it is not known that they are the end.
            if read.len() == expected.len() + 1 && tail.len() > limit {
                prop_assert_eq!(read.pop(), Some(Line::TooLong { limit }));
            }
            prop_assert_eq!(read.len(), expected.len());
            for ((read, expected), line) in read.iter().zip(&expected).zip(lines.iter().filter(|line| !line.trim_ascii_end().is_empty())) {
                prop_assert!(read == expected || (line.len() + 2 > limit && *read == Line::TooLong { limit }), "{:?}", read);
            }
        }

        #[test]
        fn a_line_without_end_is_not_waited_for(length in 10_000usize..60_000, room in 1usize..9000) {
            let read = read_in_pieces(&vec![b'x'; length], room, 9_999);
            prop_assert_eq!(read, [Line::TooLong { limit: 9_999 }]);
        }
    }

    #[test]
    fn only_the_overlong_line_is_skipped() {
        let long = "x".repeat(70_000);
        let input = format!("{{}}\r\n\n {long}\nlast\nunfinished");
        let expected = [whole("{}"), Line::TooLong { limit: 9_999 }, whole("last")];
        assert_eq!(read_in_pieces(input.as_bytes(), 4_000, 9_999), expected);
    }
}
