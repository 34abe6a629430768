//! One client: a connection, what it says on it, and whether the answers are right.

use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::body::Parts;
use super::message::{self, Era, FIRST_ID, INITIALIZE, INITIALIZED, Message, SMALL};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// MCP of an era.
    Mcp(Era),
    /// Plain HTTP: the arguments of a call alone.
    Plain,
}

/// When an answer is right.
#[derive(Clone, Debug)]
pub enum Check {
    /// All that follows the id has these bytes.
    Exactly(Bytes),
    /// It is a tool result with this text, however it is written.
    Says(Arc<str>),
}

/// Whom a client talks to, and what it says.
#[derive(Clone, Debug)]
pub struct Address {
    /// `http://HOST:PORT/PATH`.
    pub url: String,
    /// Presented as bearer.
    pub token: String,
    /// What is spoken there.
    pub speech: Speech,
    /// What is said, in turns.
    pub messages: Vec<Message>,
    /// What has to be answered.
    pub check: Check,
}

impl Address {
    /// Small calls of a legacy client.
    pub fn calls(url: &str, token: &str, tool: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            speech: Speech::Mcp(Era::Legacy),
            messages: vec![Message::call(Era::Legacy, tool, SMALL, 0)],
            check: Check::Exactly(message::answer(Era::Legacy, 0)),
        }
    }

    /// `HOST:PORT`, and the path.
    fn parts(&self) -> anyhow::Result<(&str, &str)> {
        let rest = self.url.strip_prefix("http://").context("the benchmark speaks plain http")?;
        Ok(rest.split_at(rest.find('/').unwrap_or(rest.len())))
    }
}

/// One client: one connection and, where there are such, one MCP session.
pub struct Session {
    sender: SendRequest<Parts>,
    address: Arc<Address>,
    uri: Uri,
    /// Of every POST.
    headers: HeaderMap,
    next: u64,
}

impl Session {
    /// Connects and, as a legacy client, initializes.
    pub async fn open(address: &Arc<Address>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address.parts()?.0).await?;
        Self::on(stream, address).await
    }

    /// The same on a connection that is there.
    pub async fn on(stream: TcpStream, address: &Arc<Address>) -> anyhow::Result<Self> {
        let (authority, path) = address.parts()?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let headers = headers(address, authority)?;
        let uri = if path.is_empty() { "/" } else { path }.parse()?;
        let address = Arc::clone(address);
        let mut session = Self { sender, address, uri, headers, next: 0 };
        if session.address.speech == Speech::Mcp(Era::Legacy) {
            session.post(INITIALIZE.to_owned()).await?;
            session.headers.insert(VERSION, Era::Legacy.version());
            session.post(INITIALIZED.to_owned()).await?;
        }
        Ok(session)
    }

    /// Sends one message and gives the body of the answer.
    pub async fn post(&mut self, body: impl Into<Parts>) -> anyhow::Result<Bytes> {
        let response = self.exchange(Method::POST, self.headers.clone(), body.into()).await?;
        if let Some(id) = response.headers().get(SESSION) {
            self.headers.insert(SESSION, id.clone());
        }
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// Opens the stream for what belongs to no call.
    pub async fn listen(&mut self) -> anyhow::Result<Incoming> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        Ok(self.exchange(Method::GET, headers, Parts::default()).await?.into_body())
    }

    /// Ends the session, as clients do that have no further use for it.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let response =
            self.exchange(Method::DELETE, self.headers.clone(), Parts::default()).await?;
        response.into_body().collect().await?;
        Ok(())
    }

    async fn exchange(
        &mut self,
        method: Method,
        headers: HeaderMap,
        body: Parts,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::bail!("status {status}: {}", excerpt(&body));
        }
        Ok(response)
    }

    /// Says the next message; gives its id and the answer.
    async fn ask(&mut self) -> anyhow::Result<(u64, Bytes)> {
        let address = Arc::clone(&self.address);
        let count = address.messages.len() as u64;
        let turn = usize::try_from(self.next % count.max(1))?;
        let message = address.messages.get(turn).context("nothing to say")?;
        let id = FIRST_ID + self.next;
        self.next += 1;
        let mut headers = self.headers.clone();
        if let (Speech::Mcp(Era::Modern), Some(method)) = (address.speech, message.method) {
            headers.insert(METHOD, HeaderValue::from_static(method));
            if let Some(tool) = &message.tool {
                headers.insert(NAME, HeaderValue::from_str(tool)?);
            }
        }
        let response = self.exchange(Method::POST, headers, message.body(id)).await?;
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let body = response.into_body().collect().await?.to_bytes();
        Ok((id, if is_stream { last_event(&body) } else { body }))
    }

    /// Says the next message and checks the answer.
    pub async fn call(&mut self) -> anyhow::Result<()> {
        let (id, answer) = self.ask().await?;
        let right = match &self.address.check {
            Check::Exactly(tail) => self.after_id(id, &answer) == Some(tail.as_ref()),
            Check::Says(text) => says(&answer, self.address.speech, id, text),
        };
        ensure!(right, "call {id} was answered with {}", excerpt(&answer));
        Ok(())
    }

    /// Says the next message and gives all that follows the id in its answer.
    pub async fn learn(&mut self) -> anyhow::Result<Bytes> {
        let (id, answer) = self.ask().await?;
        let tail = self.after_id(id, &answer).map(Bytes::copy_from_slice);
        tail.with_context(|| format!("call {id} was answered with {}", excerpt(&answer)))
    }

    fn after_id<'a>(&self, id: u64, answer: &'a [u8]) -> Option<&'a [u8]> {
        match self.address.speech {
            Speech::Mcp(_) => answer.strip_prefix(message::head(id).as_bytes()),
            Speech::Plain => Some(answer),
        }
    }

    /// Makes a call that tells of its progress so many times: microseconds that each event took.
    pub async fn delays(&mut self, events: u64) -> anyhow::Result<Histogram<u64>> {
        self.next += 1;
        let tool = self.address.messages.first().and_then(|message| message.tool.clone());
        let body = message::streaming_body(&tool.unwrap_or_default(), self.next, events);
        let response = self.exchange(Method::POST, self.headers.clone(), body.into()).await?;
        let mut stream = response.into_body();
        let (mut delays, mut text) = (Histogram::new(3)?, String::new());
        while let Some(frame) = stream.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let now = message::nanoseconds()?;
            text.push_str(std::str::from_utf8(&data)?);
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                if let Some(sent) = message::sent_at(&event) {
                    delays.record(now.saturating_sub(sent) / 1000)?;
                }
            }
        }
        ensure!(delays.len() == events, "{} of {events} events came", delays.len());
        Ok(delays)
    }
}

/// A connection from the `number`th of the many addresses of this machine, which has only so many
/// ports for each.
pub async fn connect_from(number: usize, authority: &str) -> anyhow::Result<TcpStream> {
    const EACH: usize = 20_000;
    let block = u8::try_from(number / EACH)?;
    let socket = TcpSocket::new_v4()?;
    if block > 0 {
        socket.bind((std::net::Ipv4Addr::new(127, 0, 1, block), 0).into())?;
    }
    Ok(socket.connect(authority.parse()?).await?)
}

fn headers(address: &Address, authority: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json.clone());
    let both = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, if address.speech == Speech::Plain { json } else { both });
    headers.insert(header::HOST, authority.parse()?);
    headers.insert(header::AUTHORIZATION, format!("Bearer {}", address.token).parse()?);
    if address.speech == Speech::Mcp(Era::Modern) {
        headers.insert(VERSION, Era::Modern.version());
    }
    Ok(headers)
}

/// The data of the last event that has some.
fn last_event(body: &Bytes) -> Bytes {
    let lines = body.split(|byte| *byte == b'\n').rev();
    let mut data = lines.filter_map(|line| line.strip_prefix(b"data:")).map(<[u8]>::trim_ascii);
    data.find(|data| !data.is_empty()).map(|data| body.slice_ref(data)).unwrap_or_default()
}

fn says(answer: &[u8], speech: Speech, id: u64, text: &str) -> bool {
    if speech == Speech::Plain {
        return answer == text.as_bytes();
    }
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let found = answer.pointer("/result/content/0/text").and_then(Value::as_str);
    answer.get("id").and_then(Value::as_u64) == Some(id) && found == Some(text)
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..300).unwrap_or(body)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_with_data_is_the_answer() {
        let body = Bytes::from_static(
            b"id: 1\ndata:\n\nevent: message\ndata: {\"a\":1}\n\ndata: {\"b\":2}\n\n: bye\n\n",
        );
        assert_eq!(last_event(&body), r#"{"b":2}"#);
        assert_eq!(last_event(&Bytes::from_static(b": nothing\n\n")), "");
    }

    #[test]
    fn only_the_right_text_and_id_are_right() {
        let answer = br#"{"id":7,"result":{"content":[{"text":"t"}]},"jsonrpc":"2.0"}"#;
        let speech = Speech::Mcp(Era::Legacy);
        assert!(says(answer, speech, 7, "t"));
        assert!(!says(answer, speech, 8, "t"));
        assert!(!says(answer, speech, 7, "u"));
        assert!(says(b"t", Speech::Plain, 0, "t"));
    }
}
