//! Messages on standard input and output: a line each, of bounded length.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

/// Messages, one line each.
pub type Messages = mpsc::Receiver<Bytes>;

/// Longest line, in bytes; a longer one is no message and is skipped.
const LINE_MAX: usize = 16 << 20;

/// Gives every line of `input` until its end, or until nobody takes them.
pub async fn read(mut input: impl AsyncRead + Unpin, lines: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    let mut scanned = 0;
    let mut is_skipping = false;
    loop {
        while let Some(found) =
            buffer.get(scanned..).and_then(|unseen| memchr::memchr(b'\n', unseen))
        {
            let mut line = buffer.split_to(scanned + found + 1);
            scanned = 0;
            line.truncate(line.trim_ascii_end().len());
            let is_rest = std::mem::take(&mut is_skipping);
            let is_message = !line.is_empty() && !is_rest && line.len() <= LINE_MAX;
            if is_message && lines.send(line.freeze()).await.is_err() {
                return;
            }
        }
        scanned = buffer.len();
        if scanned > LINE_MAX {
            tracing::warn!(limit = LINE_MAX, "a line is too long and was skipped");
            buffer.clear();
            (scanned, is_skipping) = (0, true);
        }
        buffer.reserve(8 * 1024);
        match input.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => (),
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

    /// Writes `input` through a pipe that holds `room` bytes and gives the lines that are read.
    fn read_in_pieces(input: &[u8], room: usize) -> Vec<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(room);
            let (lines, mut taken) = mpsc::channel(1);
            let writing = async move { ours.write_all(input).await.unwrap() };
            let taking = async {
                let mut all = Vec::new();
                while let Some(line) = taken.recv().await {
                    all.push(line);
                }
                all
            };
            tokio::join!(writing, read(theirs, lines), taking).2
        })
    }

    proptest! {
        #[test]
        fn lines_cut_anywhere_are_the_same_lines(
            lines in prop::collection::vec("[ -~é]{0,20}", 0..8),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n"]), 8),
            tail in "[a-z]{0,8}",
            room in 1usize..40,
        ) {
            let written = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), *end]).collect::<String>();
            let expected: Vec<_> = lines
                .iter()
                .map(|line| line.trim_ascii_end())
                .filter(|line| !line.is_empty())
                .map(|line| Bytes::copy_from_slice(line.as_bytes()))
                .collect();
            prop_assert_eq!(read_in_pieces((written + &tail).as_bytes(), room), expected);
        }

        #[test]
        fn what_is_written_is_read_again(
            messages in prop::collection::vec("[!-~][ -~é]{0,20}[!-~]", 0..8),
            room in 1usize..40,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let output = runtime.block_on(async {
                let (sender, taken) = mpsc::channel(9);
                for message in &messages {
                    sender.send(Bytes::copy_from_slice(message.as_bytes())).await.unwrap();
                }
                drop(sender);
                let mut output = Vec::new();
                write(&mut output, taken).await;
                output
            });
            prop_assert_eq!(read_in_pieces(&output, room), messages);
        }
    }

    #[tokio::test]
    async fn lines_are_told_apart_and_the_overlong_one_is_skipped() {
        let long = "x".repeat(LINE_MAX + 1);
        let input = format!("{{}}\r\n\n {long}\nlast\nunfinished");
        let (lines, mut taken) = mpsc::channel(9);
        read(input.as_bytes(), lines).await;
        assert_eq!(taken.recv().await.unwrap(), "{}");
        assert_eq!(taken.recv().await.unwrap(), "last");
        assert_eq!(taken.recv().await, None);
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
