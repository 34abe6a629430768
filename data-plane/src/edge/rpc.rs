//! Plain JSON-RPC over POST, as ContextForge's clients use it: no session, no streams, and tools
//! that may be called by their name as the method.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    Client, Edge,
    mcp::{parse, rendered},
    private::{self, Caller},
};
use crate::{
    engine::{self, Inbound, Sender},
    error::Failure,
    mcp::{self, Kind, Message, message, response::quote, version, version::InboundEra},
    route::{self, Endpoint},
    snapshot::table::View,
    transport::{
        body::{self, Body},
        headers::{self, Accepts},
    },
};

impl Edge {
    /// Answers one message; each stands alone.
    pub(super) async fn rpc_steps(
        &self,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
        id: &mut Option<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        let mut sender = self.sender(&parts.headers, client, endpoint).await?;
        let message = self.only_message((&parts, body), id).await?;
        if let Some(server) = narrowed(&message) {
            sender.endpoint = server;
        }
        let view = route::view(&sender.table, &sender.endpoint)?;
        let message = in_words_of_mcp(message, view);
        // Nothing here is mirrored in headers: the body says all.
        sender.headers = None;
        let era = version::era_of_body(&message)?;
        self.alone((sender, &parts), (message, era), Accepts::Json).await
    }

    /// Answers one message of Streamable HTTP without sessions.
    pub(super) async fn stateless(
        &self,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
        id: &mut Option<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let mut sender = self.sender(headers, client, endpoint).await?;
        let message = self.only_message((&parts, body), id).await?;
        let accepts = self.accepts(headers)?;
        let era = version::era_of(&message, &engine::legacy::mirror_headers(headers))?;
        if let InboundEra::Legacy { header: _ } = era {
            // Whatever session they name, there is none.
            sender.headers = None;
        }
        self.alone((sender, &parts), (message, era), accepts).await
    }

    async fn only_message(
        &self,
        (parts, body): (&request::Parts, Incoming),
        id: &mut Option<Bytes>,
    ) -> Result<Message, Failure> {
        if parts.method != Method::POST {
            return Err(Failure::Method("POST"));
        }
        let headers = &parts.headers;
        headers::check_content(headers)?;
        let body = body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
        parse(body, id)
    }

    async fn alone(
        &self,
        (mut sender, parts): (Sender<'_>, &request::Parts),
        (message, era): (Message, InboundEra),
        accepts: Accepts,
    ) -> Result<Response<Body>, Failure> {
        if !engine::legacy::is_initialize(&message)
            && let Some(answer) = self.at_its_place(&sender, parts, &message, &era).await?
        {
            return Ok(answer);
        }
        if private::is_private(&sender, &message) {
            let caller = Caller::alone(&sender, &era);
            Box::pin(self.look(&mut sender, &message, &caller)).await;
        }
        let inbound = Inbound { sender, message };
        match era {
            InboundEra::Legacy { header: _ } => {
                let served = engine::legacy::serve_alone(inbound)?;
                rendered(served, accepts, self.timeouts.keep_alive).await
            }
            InboundEra::Modern { version, capabilities } => {
                let client = route::Client { version, capabilities };
                // Only Streamable HTTP has statuses for errors.
                if inbound.sender.headers.is_some() {
                    return self.modern(inbound, client, accepts).await;
                }
                let served = engine::modern::serve(inbound, client)?;
                rendered(served, accepts, self.timeouts.keep_alive).await
            }
        }
    }
}

/// The virtual server that `params.server_id` of a list names.
fn narrowed(message: &Message) -> Option<Endpoint> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        server_id: Option<Cow<'a, str>>,
    }
    let method = message.method()?.as_str();
    if !method.ends_with("/list") && method != "list_tools" {
        return None;
    }
    let span = message.params()?.span?;
    let raw = message.raw(span);
    memchr::memmem::find(raw, b"server_id")?;
    let server = serde_json::from_slice::<Params<'_>>(raw).ok()?.server_id?;
    Some(Endpoint::Server(server.into()))
}

/// ContextForge's own spellings: `list_tools`, and a tool's name as the method.
fn in_words_of_mcp(message: Message, view: &View) -> Message {
    let Kind::Request(request) = &message.kind else { return message };
    let mcp::Method::Unknown(name) = &request.method else { return message };
    let body = if **name == *"list_tools" {
        message::splice(message.body(), &[(request.method_span, b"\"tools/list\"".as_slice())])
    } else if view.tool(name).is_some() {
        let id = String::from_utf8_lossy(message.raw(request.id));
        let arguments = request.params.span.map_or("{}", |span| span.of(message.text()));
        let name = quote(name);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":{name},"arguments":{arguments}}}}}"#
        );
        call.into()
    } else {
        return message;
    };
    message::parse(body).unwrap_or(message)
}
