//! Clients that hold a stream of some kind open and do nothing.

use std::sync::Arc;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tests::bench::client::connect_from;
use tests::bench::message::{INITIALIZE, INITIALIZED};
use tests::bench::{Address, CLIENT_TOOL, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::setup::Setup;

/// How a client listens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `subscriptions/listen` of the modern era.
    Listen,
    /// GET of a legacy session.
    Get,
    /// HTTP+SSE of 2024-11-05.
    Sse,
    WebSocket,
    /// A connection after a request, kept for the next one.
    KeepAlive,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Listen, Self::Get, Self::Sse, Self::WebSocket, Self::KeepAlive];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Listen => "subscriptions/listen",
            Self::Get => "GET of a session",
            Self::Sse => "HTTP+SSE",
            Self::WebSocket => "WebSocket",
            Self::KeepAlive => "keep-alive connection",
        }
    }

    /// KiB of memory that one may cost.
    pub(crate) fn most(self) -> f64 {
        match self {
            Self::Listen | Self::Get | Self::Sse | Self::WebSocket => 40.0,
            Self::KeepAlive => 20.0,
        }
    }
}

/// A client that listens.
pub(crate) enum Stream {
    Raw(Raw),
    /// The session keeps the connection.
    Get(Box<Session>, Incoming),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl Stream {
    /// Connects as the `number`th; `filter`: what to be told of, where that has to be said.
    pub(crate) async fn open(
        setup: &Setup,
        kind: Kind,
        filter: &str,
        number: usize,
    ) -> anyhow::Result<Self> {
        let stream = connect_from(number, authority(setup)?).await?;
        match kind {
            Kind::Listen => Raw::listen(setup, stream, filter).await.map(Self::Raw),
            Kind::Sse => Raw::sse(setup, stream, number).await.map(Self::Raw),
            Kind::KeepAlive => Raw::ready(setup, stream).await.map(Self::Raw),
            Kind::Get => {
                let address = Address::calls(&setup.gateway_url(), &setup.token, CLIENT_TOOL);
                let mut session = Session::on(stream, &Arc::new(address)).await?;
                let mut stream = session.listen().await?;
                // The priming event.
                stream.frame().await.context("no event")??;
                Ok(Self::Get(Box::new(session), stream))
            }
            Kind::WebSocket => web_socket(setup, stream).await,
        }
    }

    /// Reads until `text` comes, and forgets all before it.
    pub(crate) async fn until(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Raw(raw) => raw.until(text).await,
            Self::Get(_session, stream) => loop {
                let data = stream.frame().await.context("ended")??.into_data();
                if data.is_ok_and(|data| String::from_utf8_lossy(&data).contains(text)) {
                    return Ok(());
                }
            },
            Self::WebSocket(socket) => loop {
                if socket.next().await.context("ended")??.to_text()?.contains(text) {
                    return Ok(());
                }
            },
        }
    }
}

/// A connection whose bytes are looked at as they come.
pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    async fn listen(setup: &Setup, stream: TcpStream, filter: &str) -> anyhow::Result<Self> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{filter},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        );
        let headers = format!(
            "content-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\ncontent-length: {}\r\n",
            body.len()
        );
        let request = (&*headers, &*body);
        Self::send(setup, stream, "POST /mcp", request).await?.after("acknowledged").await
    }

    /// A stream with the session that its client has begun.
    async fn sse(setup: &Setup, stream: TcpStream, number: usize) -> anyhow::Result<Self> {
        let request = ("accept: text/event-stream\r\n", "");
        let mut raw = Self::send(setup, stream, "GET /sse", request).await?;
        let told = raw.text_until("\n\n").await?;
        let endpoint =
            told.split_once("event: endpoint").and_then(|(_, rest)| rest.split_once("data: "));
        let (_, endpoint) = endpoint.with_context(|| told.clone())?;
        let path = endpoint.lines().next().context("no endpoint")?.trim();
        let line = format!("POST {path}");
        for body in [INITIALIZE, INITIALIZED] {
            let headers =
                format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
            // A connection that ends with its request, as a client has it in its pool.
            let stream = connect_from(number, authority(setup)?).await?;
            let request = (&*headers, body);
            Self::send(setup, stream, &line, request).await?.after("HTTP/1.1 202").await?;
        }
        raw.after("serverInfo").await
    }

    async fn ready(setup: &Setup, stream: TcpStream) -> anyhow::Result<Self> {
        Self::send(setup, stream, "GET /ready", ("", "")).await?.after("200 OK").await
    }

    async fn send(
        setup: &Setup,
        mut stream: TcpStream,
        line: &str,
        (headers, body): (&str, &str),
    ) -> anyhow::Result<Self> {
        let authority = authority(setup)?;
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {}\r\n{headers}\r\n{body}",
            setup.token
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(Self { stream, read: Vec::new() })
    }

    async fn after(mut self, text: &str) -> anyhow::Result<Self> {
        self.until(text).await?;
        Ok(self)
    }

    async fn until(&mut self, text: &str) -> anyhow::Result<()> {
        self.text_until(text).await.map(drop)
    }

    /// Reads until `text` comes, and gives all that came.
    async fn text_until(&mut self, text: &str) -> anyhow::Result<String> {
        loop {
            let all = String::from_utf8_lossy(&self.read);
            if all.contains(text) {
                let all = all.into_owned();
                self.read = Vec::new();
                return Ok(all);
            }
            let count = self.stream.read_buf(&mut self.read).await?;
            ensure!(count > 0, "closed after {}", String::from_utf8_lossy(&self.read));
        }
    }
}

async fn web_socket(setup: &Setup, stream: TcpStream) -> anyhow::Result<Stream> {
    let authority = authority(setup)?;
    let mut request = format!("ws://{authority}/ws").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, format!("Bearer {}", setup.token).parse()?);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, "mcp".parse()?);
    let (mut socket, _) = client_async(request, stream).await?;
    socket.send(Message::text(INITIALIZE)).await?;
    let hello = socket.next().await.context("closed")??;
    ensure!(hello.to_text()?.contains("serverInfo"), "it said {hello}");
    socket.send(Message::text(INITIALIZED)).await?;
    Ok(Stream::WebSocket(Box::new(socket)))
}

fn authority(setup: &Setup) -> anyhow::Result<&str> {
    setup.gateway.url().strip_prefix("http://").context("not plain http")
}
