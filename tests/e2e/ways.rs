//! The ways in: a client of each transport, exact to the byte.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::client::{Answer as HttpAnswer, Client, LEGACY};
use tests::world::World;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::connect::Pipe;
use super::transports::Events;

const PATIENCE: Duration = Duration::from_secs(30);

/// Every client transport.
pub(super) const WAYS: [&str; 5] = ["mcp", "rpc", "sse", "ws", "stdio"];

/// A client of one transport, in a session where the transport has one.
pub(super) enum Way {
    Http(Client),
    Rpc(Client),
    Events(Box<Events>),
    Socket(Box<WebSocketStream<TcpStream>>),
    Pipe(Box<Pipe>),
}

/// What a client was told.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of HTTP, where the message went by a request of its own.
    pub(super) status: Option<u16>,
    /// As it came.
    pub(super) text: String,
}

impl Answer {
    fn of(answer: &HttpAnswer) -> anyhow::Result<Self> {
        let text =
            if answer.is_stream() { answer.response()?.to_string() } else { answer.body.clone() };
        Ok(Self { status: Some(answer.status.as_u16()), text })
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The code of the error; 0 if it is none.
    pub(super) fn code(&self) -> i64 {
        self.json().pointer("/error/code").and_then(Value::as_i64).unwrap_or_default()
    }
}

impl Way {
    /// Opens one; the session has no capabilities.
    pub(super) async fn open(world: &World, way: &str, token: &str) -> anyhow::Result<Self> {
        Self::able(world, way, token, json!({})).await
    }

    /// The same of a client that can do this much.
    pub(super) async fn able(
        world: &World,
        way: &str,
        token: &str,
        capabilities: Value,
    ) -> anyhow::Result<Self> {
        let client = |path: &str| Client::new(&format!("{}{path}", world.url()), Some(token));
        let mut way = match way {
            "mcp" => {
                let mut client = client("/mcp");
                client.initialize_with(LEGACY, capabilities).await?;
                return Ok(Self::Http(client));
            }
            "rpc" => return Ok(Self::Rpc(client("/rpc"))),
            "sse" => Self::Events(Box::new(Events::open_as(world, token).await?)),
            "ws" => Self::Socket(Box::new(socket(world, token).await?)),
            "stdio" => Self::Pipe(Box::new(Pipe::to(world, token)?)),
            other => bail!("no such way: {other}"),
        };
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}});
        way.ask(&hello.to_string()).await?;
        way.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await?;
        Ok(way)
    }

    /// Sends exactly this; gives the next answer.
    pub(super) async fn ask(&mut self, body: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        let body = body.as_ref();
        match self {
            Self::Http(client) | Self::Rpc(client) => {
                Answer::of(&client.post(body.to_owned()).await?)
            }
            Self::Events(_) | Self::Socket(_) | Self::Pipe(_) => match self.say(body).await? {
                Some(refused) if refused.status != Some(202) => Ok(refused),
                said => {
                    Ok(Answer { status: said.and_then(|it| it.status), text: self.hear().await? })
                }
            },
        }
    }

    /// Sends exactly this; where it went by a request of its own, what that got.
    pub(super) async fn say(&mut self, body: impl AsRef<[u8]>) -> anyhow::Result<Option<Answer>> {
        let body = body.as_ref();
        match self {
            Self::Http(client) | Self::Rpc(client) => {
                Ok(Some(Answer::of(&client.post(body.to_owned()).await?)?))
            }
            Self::Events(events) => Ok(Some(Answer::of(&events.post_text(body).await?)?)),
            Self::Socket(socket) => {
                let text = Frame::message(body.to_vec(), OpCode::Data(Data::Text), true);
                socket.send(Message::Frame(text)).await?;
                Ok(None)
            }
            Self::Pipe(pipe) => {
                pipe.send_text(body).await?;
                Ok(None)
            }
        }
    }

    /// The next answer, after notifications.
    pub(super) async fn hear(&mut self) -> anyhow::Result<String> {
        loop {
            let text = tokio::time::timeout(PATIENCE, self.next()).await.context("silence")??;
            let message: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            match message.get("method").and_then(Value::as_str) {
                None => return Ok(text),
                Some(method) if method.starts_with("notifications/") => {}
                Some(_) => bail!("it was asked: {text}"),
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<String> {
        match self {
            Self::Http(_) | Self::Rpc(_) => bail!("it has no stream"),
            Self::Events(events) => events.data().await,
            Self::Pipe(pipe) => pipe.text().await,
            Self::Socket(socket) => loop {
                match socket.next().await.context("the socket ended")?? {
                    Message::Text(text) => return Ok(text.to_string()),
                    Message::Close(frame) => bail!("closed: {frame:?}"),
                    _ => {}
                }
            },
        }
    }

    /// A modern request of a client that can do what `client` can; `params` is JSON text.
    pub(super) async fn modern(
        &mut self,
        client: &Client,
        method: &str,
        params: &str,
    ) -> anyhow::Result<Answer> {
        if let Self::Http(_) = self {
            return Answer::of(&client.modern(method, params).await?);
        }
        let request = client.modern_request(method, params)?.build()?;
        let body = request.body().and_then(reqwest::Body::as_bytes).context("no body")?;
        self.ask(body).await
    }
}

async fn socket(world: &World, token: &str) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let address = world.url().trim_start_matches("http://");
    let mut request = format!("ws://{address}/ws").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    // No session belongs to a socket, whatever its handshake says.
    request.headers_mut().insert("mcp-session-id", "forged".parse()?);
    let stream = TcpStream::connect(address).await?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}
