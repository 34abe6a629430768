//! A client that listens while it talks: it answers what servers ask.

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::{Value, json};

use crate::client::Client;

/// An event stream that is read as it comes.
pub struct Events {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// How long to wait before connecting again, if it says so.
    pub retry: Option<String>,
    /// The message; null if there is none.
    pub data: Value,
}

impl Event {
    fn read(block: &str) -> anyhow::Result<Self> {
        let mut event = Self::default();
        for line in block.lines() {
            match line.split_once(':').unwrap_or((line, "")) {
                ("id", value) => event.id = Some(value.trim().to_owned()),
                ("retry", value) => event.retry = Some(value.trim().to_owned()),
                ("data", value) if !value.trim().is_empty() => {
                    event.data = serde_json::from_str(value)?;
                }
                _ => (),
            }
        }
        Ok(event)
    }
}

impl Events {
    /// The events of an answer, which must be a stream.
    pub async fn of(response: Response) -> anyhow::Result<Self> {
        let kind = response.headers().get("content-type").cloned();
        let is_stream = kind.as_ref().is_some_and(|it| it.as_bytes() == b"text/event-stream");
        if !is_stream {
            anyhow::bail!("{} {kind:?}: {}", response.status(), response.text().await?);
        }
        Ok(Self { body: response.bytes_stream().boxed(), buffer: String::new() })
    }

    /// The next event, comments left out; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let event = Event::read(&block)?;
                if event != Event::default() {
                    return Ok(Some(event));
                }
            }
            let Some(chunk) = self.body.next().await else { return Ok(None) };
            self.buffer.push_str(&String::from_utf8_lossy(&chunk?));
        }
    }

    /// The next event that carries a message.
    pub async fn message(&mut self) -> anyhow::Result<Value> {
        loop {
            let event = self.next().await?.context("the stream ended")?;
            if !event.data.is_null() {
                return Ok(event.data);
            }
        }
    }
}

impl Client {
    /// Calls a tool and answers what it asks; gives the questions and the response.
    pub async fn converse(
        &self,
        params: &str,
        answer: impl Fn(&Value) -> Value,
    ) -> anyhow::Result<(Vec<Value>, Value)> {
        let call =
            format!(r#"{{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{params}}}"#);
        let response = self.request(call).send().await?;
        if response.headers().get("content-type").is_none_or(|it| it != "text/event-stream") {
            return Ok((Vec::new(), response.json().await?));
        }
        let mut events = Events::of(response).await?;
        let mut questions = Vec::new();
        loop {
            let message = events.message().await?;
            if message.get("method").is_none() {
                return Ok((questions, message));
            }
            if let Some(id) = message.get("id") {
                let mut reply = json!({"jsonrpc": "2.0", "id": id});
                let said = answer(&message);
                let key = if said.get("code").is_some() { "error" } else { "result" };
                reply.as_object_mut().context("not an object")?.insert(key.to_owned(), said);
                let taken = self.post(reply.to_string()).await?;
                ensure!(taken.status == 202, "an answer got {}: {}", taken.status, taken.body);
                questions.push(message);
            }
        }
    }
}

/// How a modern client's call goes on that wants input.
#[derive(Clone, Debug)]
pub struct Round {
    /// The call's parameters, JSON text.
    params: String,
    /// What it asks for, by key.
    pub inputs: serde_json::Map<String, Value>,
    /// What it wants back.
    pub state: Value,
}

impl Round {
    /// Reads the answer to a call with these parameters; `None` if it wants nothing.
    pub fn of(params: &str, response: &Value) -> Option<Self> {
        let result = response.get("result")?;
        let is_asking = result.get("resultType")? == "input_required";
        let inputs = result.get("inputRequests").and_then(Value::as_object);
        let state = result.get("requestState").cloned().unwrap_or_default();
        let inputs = inputs.cloned().unwrap_or_default();
        is_asking.then(|| Self { params: params.to_owned(), inputs, state })
    }

    /// The parameters of the next request.
    pub fn next(&self, answer: impl Fn(&Value) -> Value) -> String {
        let responses: serde_json::Map<_, _> =
            self.inputs.iter().map(|(key, input)| (key.clone(), answer(input))).collect();
        self.with(&Value::Object(responses), &self.state)
    }

    /// The parameters of a request with this input and state.
    pub fn with(&self, responses: &Value, state: &Value) -> String {
        let rest = self.params.trim().strip_prefix('{').unwrap_or_default();
        let state =
            if state.is_null() { String::new() } else { format!(r#""requestState":{state},"#) };
        format!(r#"{{"inputResponses":{responses},{state}{rest}"#)
    }
}

impl Client {
    /// Calls a tool as a modern client, and again with what it asks for; gives all that was
    /// asked and the last response.
    pub async fn rounds(
        &self,
        params: &str,
        answer: impl Fn(&Value) -> Value,
    ) -> anyhow::Result<(Vec<Value>, Value)> {
        let mut response = self.modern("tools/call", params).await?.response()?;
        let mut asked = Vec::new();
        while let Some(round) = Round::of(params, &response) {
            asked.extend(round.inputs.values().cloned());
            response = self.modern("tools/call", &round.next(&answer)).await?.response()?;
        }
        Ok((asked, response))
    }
}
