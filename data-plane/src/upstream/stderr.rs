//! What children say on stderr: into the log, at a bounded rate; the last words are kept.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    time::Instant,
};

const LINE_MAX: usize = 4 * 1024;
const LINES_PER_WINDOW: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// How much of the last line is kept for error messages, in characters.
const TAIL_MAX: usize = 300;

/// Logs lines until the stream ends.
pub(super) async fn log(
    stderr: impl AsyncRead + Unpin,
    upstream: String,
    tail: Arc<Mutex<String>>,
) {
    let mut reader = BufReader::new(stderr);
    let mut window = Window { since: Instant::now(), count: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer line goes on as the next one.
        let mut bounded = (&mut reader).take(LINE_MAX as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => (),
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        *tail.lock() = text.chars().take(TAIL_MAX).collect();
        match window.next() {
            Line::Log => tracing::info!(target: "upstream.stderr", upstream, "{text}"),
            Line::LogLast => {
                tracing::warn!(target: "upstream.stderr", upstream, "says too much: some lines are left out");
            }
            Line::LeaveOut => (),
        }
    }
}

struct Window {
    since: Instant,
    count: u32,
}

enum Line {
    Log,
    LogLast,
    LeaveOut,
}

impl Window {
    fn next(&mut self) -> Line {
        if self.since.elapsed() > WINDOW {
            *self = Self { since: Instant::now(), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        match self.count.cmp(&LINES_PER_WINDOW) {
            std::cmp::Ordering::Less => Line::Log,
            std::cmp::Ordering::Equal => Line::LogLast,
            std::cmp::Ordering::Greater => Line::LeaveOut,
        }
    }
}
