//! Sessions that their clients have deleted, told from proxy to proxy.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message as _;
use proto::{resource::EndedSession, wire};

use super::{Edge, mcp::now_ms};
use crate::{
    engine::{self, Sender},
    error::Failure,
    peer::herald,
    session,
    transport::{
        body::{self, Body},
        response,
    },
    upstream::SessionKey,
};

impl Edge {
    /// Answers a `DELETE`, when the other proxies refuse the session too: the client may ask any
    /// of them next.
    pub(super) async fn delete(&self, sender: &Sender<'_>) -> Result<Response<Body>, Failure> {
        let ended = engine::legacy::delete(sender)?;
        let others = sender.table.proxies().filter(|proxy| proxy.id != self.proxy_id);
        self.peers.tell_ended(others, ended).await;
        Ok(response::empty(StatusCode::NO_CONTENT))
    }

    /// Ends what another proxy tells of.
    pub(super) async fn ended_elsewhere(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(Failure::Method("POST"));
        }
        let timeout = self.timeouts.body;
        let body = body::read(&parts.headers, body, herald::LONGEST, timeout).await?;
        let told = wire::SessionsEnded::decode(body)
            .map_err(|_| Failure::InvalidRequest("the body tells of no sessions"))?;
        // What is beyond that comes with the configuration.
        let room = self.sessions.room_for_ended();
        let (now_ms, latest_ms) = (now_ms(), now_ms() + session::LIFETIME_MS);
        let ended = told.sessions.into_iter().filter_map(|it| EndedSession::try_from(it).ok());
        for EndedSession { id, expire_time_ms } in ended.take(room) {
            if expire_time_ms > now_ms && self.sessions.end(id, expire_time_ms.min(latest_ms)) {
                self.upstreams.close_session(&SessionKey::Client(id));
            }
        }
        Ok(response::empty(StatusCode::NO_CONTENT))
    }
}
