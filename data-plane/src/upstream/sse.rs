//! Decodes server-sent events (WHATWG HTML §9.2.6) from chunks of any size, in bounded memory.

use bytes::{Buf as _, Bytes, BytesMut};

/// One event. Events without data fields are not given, as the standard says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Empty: `message`.
    pub(crate) name: Bytes,
    /// Lines joined by `\n`. Empty for a priming event (MCP 2025-11-25, transports).
    pub(crate) data: Bytes,
    /// The last id that the stream gave.
    pub(crate) id: Option<Bytes>,
}

impl SseEvent {
    /// Whether it carries a message: priming events do not, and keep-alives of some servers have
    /// names of their own.
    pub(crate) fn is_message(&self) -> bool {
        !self.data.is_empty() && (self.name.is_empty() || self.name == "message")
    }
}

/// An event or a line is longer than allowed; the stream is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The state between two chunks.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// Bytes of `buffer` that are known to hold no line end.
    scanned: usize,
    /// Longest event, in bytes.
    pub(crate) limit: usize,
    started: bool,
    /// The last line ended with CR: a LF that follows belongs to it.
    skip_lf: bool,
    name: Bytes,
    data: Option<Data>,
    id: Option<Bytes>,
    /// Milliseconds to wait before reconnecting, if the stream said so.
    pub(crate) retry_ms: Option<u64>,
}

/// Data fields so far; one line, the usual case, stays a slice of the chunk.
#[derive(Debug)]
enum Data {
    One(Bytes),
    More(BytesMut),
}

impl Decoder {
    /// A decoder that takes events of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            limit,
            started: false,
            skip_lf: false,
            name: Bytes::new(),
            data: None,
            id: None,
            retry_ms: None,
        }
    }

    /// A decoder for the stream that goes on where this one ended.
    pub(crate) fn reopened(&self) -> Self {
        let retry_ms = self.retry_ms;
        Self { id: self.id.clone(), retry_ms, ..Self::new(self.limit) }
    }

    /// The id to resume after.
    pub(crate) fn last_id(&self) -> Option<&Bytes> {
        self.id.as_ref()
    }

    /// Takes the next chunk of the stream.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() {
            // The chunk is usually ours alone, then this copies nothing.
            self.buffer = chunk.try_into_mut().unwrap_or_else(|chunk| BytesMut::from(&*chunk));
        } else {
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next complete event; `None` until another chunk comes.
    pub(crate) fn next(&mut self) -> Result<Option<SseEvent>, TooLarge> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Ok(Some(event));
                }
            } else {
                self.field(line);
            }
            self.check(0)?;
        }
        self.check(self.buffer.len())?;
        Ok(None)
    }

    fn check(&self, pending: usize) -> Result<(), TooLarge> {
        let data = match &self.data {
            None => 0,
            Some(Data::One(line)) => line.len(),
            Some(Data::More(lines)) => lines.len(),
        };
        if data + pending > self.limit { Err(TooLarge) } else { Ok(()) }
    }

    fn line(&mut self) -> Option<Bytes> {
        if self.skip_lf && !self.buffer.is_empty() {
            self.skip_lf = false;
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
        }
        if !self.started && !self.skip_bom() {
            return None;
        }
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(found) = memchr::memchr2(b'\r', b'\n', unseen) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + found).freeze();
        self.scanned = 0;
        self.skip_lf = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        Some(line)
    }

    /// Skips a byte order mark; false while it cannot be told whether there is one.
    fn skip_bom(&mut self) -> bool {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        if self.buffer.len() < BOM.len() && BOM.starts_with(&self.buffer) {
            return false;
        }
        if self.buffer.starts_with(BOM) {
            self.buffer.advance(BOM.len());
        }
        self.started = true;
        true
    }

    fn field(&mut self, line: Bytes) {
        let (name, value) = match memchr::memchr(b':', &line) {
            // A comment.
            Some(0) => return,
            Some(colon) => {
                let after = line.get(colon + 1).is_some_and(|byte| *byte == b' ');
                (line.slice(..colon), line.slice(colon + 1 + usize::from(after)..))
            }
            None => (line, Bytes::new()),
        };
        match &*name {
            b"data" => self.append(value),
            b"event" => self.name = value,
            b"id" if !value.contains(&0) => self.id = Some(value),
            b"retry" => {
                let digits = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                self.retry_ms = digits.or(self.retry_ms);
            }
            _ => (),
        }
    }

    fn append(&mut self, value: Bytes) {
        self.data = Some(match self.data.take() {
            None => Data::One(value),
            Some(data) => {
                let mut lines = match data {
                    Data::One(line) => BytesMut::from(&*line),
                    Data::More(lines) => lines,
                };
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&value);
                Data::More(lines)
            }
        });
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let name = std::mem::take(&mut self.name);
        let data = match self.data.take()? {
            Data::One(line) => line,
            Data::More(lines) => lines.freeze(),
        };
        Some(SseEvent { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `stream` in chunks that end at `cuts`.
    fn decode(stream: &[u8], cuts: &[usize]) -> Vec<(String, String, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut decoder = Decoder::new(1024);
        let mut out = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([stream.len()]) {
            let to = cut.clamp(from, stream.len());
            decoder.push(Bytes::copy_from_slice(&stream[from..to]));
            from = to;
            while let Some(event) = decoder.next().unwrap() {
                out.push((text(&event.name), text(&event.data), event.id.as_ref().map(text)));
            }
        }
        out
    }

    #[test]
    fn fields_comments_and_priming_events_are_read() {
        let stream = b"\xef\xbb\xbf: hello\nid: 7\nretry: 10\ndata:\n\nevent: message\r\ndata: a\rdata:b\ndata\n\n: x\n\ndata: lost";
        let seven = Some("7".to_owned());
        assert_eq!(
            decode(stream, &[]),
            [
                (String::new(), String::new(), seven.clone()),
                ("message".to_owned(), "a\nb\n".to_owned(), seven)
            ]
        );
    }

    #[test]
    fn a_line_or_event_without_end_is_refused() {
        let mut decoder = Decoder::new(10);
        decoder.push(Bytes::from_static(b"data: 12345678"));
        assert_eq!(decoder.next(), Err(TooLarge));
        let mut decoder = Decoder::new(10);
        decoder.push(Bytes::from_static(b"data: 123456\ndata: 123456\n"));
        assert_eq!(decoder.next(), Err(TooLarge));
    }

    #[test]
    fn a_crlf_cut_in_two_is_one_line_end() {
        assert_eq!(decode(b"data: a\r\n\r\ndata: b\r\n\r\n", &[8, 10]).len(), 2);
        assert_eq!(decode(b"data: a\r\ndata: b\r\n\r\n", &[8])[0].1, "a\nb");
    }

    proptest! {
        #[test]
        fn any_split_and_line_end_gives_the_same_events(
            events in prop::collection::vec(prop::collection::vec("[ -~é]{0,12}", 1..4), 0..6),
            ends in prop::collection::vec(0..3usize, 40),
            cuts in prop::collection::vec(0..400usize, 0..12),
        ) {
            let mut ends = ends.iter().cycle().map(|end| ["\n", "\r", "\r\n"][*end]);
            let mut stream = String::new();
            for lines in &events {
                for line in lines {
                    stream += &format!("data: {line}{}:c{}", ends.next().unwrap(), ends.next().unwrap());
                }
                // A CR before an LF would be one line end, so the blank line has its own.
                stream += ":c\n\n";
            }
            let mut cuts = cuts;
            cuts.sort_unstable();
            let decoded = decode(stream.as_bytes(), &cuts);
            let expected: Vec<_> = events.iter().map(|lines| lines.join("\n")).collect();
            prop_assert_eq!(decoded.into_iter().map(|event| event.1).collect::<Vec<_>>(), expected);
        }
    }
}
