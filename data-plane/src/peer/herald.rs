//! Tells the other proxies at once which sessions have ended, so that they refuse them before the
//! configuration says so. Whoever cannot be told in time learns it from there, as ever.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use parking_lot::Mutex;
use prost::Message as _;
use proto::{
    resource::{EndedSession, ProxyResource},
    wire,
};
use rustls::ClientConfig;
use tokio::{sync::watch, time::timeout};

use super::{
    Peers,
    lane::{Lane, Sent},
};

/// Where a proxy is told. One of an older version answers 404, and that is all.
pub(crate) const PATH: &str = "/sessions/ended";
const URI: &str = "https://proxy/sessions/ended";
/// The longest message, in bytes: it has room for all that is told at once.
pub(crate) const LONGEST: usize = 64 << 10;

/// How long a client waits for all proxies to know that its session is over.
const WAIT: Duration = Duration::from_millis(500);
/// How long one proxy may take before others of its sessions are told.
const ANSWER: Duration = Duration::from_secs(2);
/// Most sessions in one message, and most that wait to be told to one proxy.
const AT_ONCE: usize = 1024;
const WAITING: usize = 8 * AT_ONCE;

/// What one proxy is still to be told: one message is on its way at a time, and what ends
/// meanwhile goes with the next.
#[derive(Debug, Default)]
pub(crate) struct Herald {
    state: Mutex<State>,
    /// How many of all that were noted have been told, or given up.
    settled: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<EndedSession>,
    /// How many there have been.
    noted: u64,
    is_telling: bool,
}

/// A session that was noted.
#[derive(Debug)]
struct Noted {
    number: u64,
    /// Nobody tells this proxy anything yet.
    is_first: bool,
}

impl Herald {
    /// Nothing if too many wait already.
    fn note(&self, session: EndedSession) -> Option<Noted> {
        let mut state = self.state.lock();
        if state.waiting.len() >= WAITING {
            return None;
        }
        state.waiting.push(session);
        state.noted += 1;
        let is_first = !std::mem::replace(&mut state.is_telling, true);
        Some(Noted { number: state.noted, is_first })
    }

    /// What is to be told next; if that is nothing, telling is over.
    fn next(&self) -> Option<Vec<EndedSession>> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(AT_ONCE);
        state.is_telling = count > 0;
        state.is_telling.then(|| state.waiting.drain(..count).collect())
    }

    fn settle(&self, count: usize) {
        self.settled.send_modify(|settled| *settled += count as u64);
    }

    async fn is_settled(&self, number: u64) {
        // The sender is our own: it is never gone.
        drop(self.settled.subscribe().wait_for(|settled| *settled >= number).await);
    }
}

impl Peers {
    /// Tells `others` that a session has ended, and waits a moment until they know.
    pub(crate) async fn tell_ended(
        &self,
        others: impl Iterator<Item = &Arc<ProxyResource>>,
        session: EndedSession,
    ) {
        let Some(tls) = self.tls.load_full() else { return };
        let told = others.filter_map(|proxy| {
            let lane = self.lane(proxy)?;
            let Noted { number, is_first } = lane.herald().note(session)?;
            if is_first {
                // Not part of the request: who is not there is found out once for all of them.
                tokio::spawn(tell(Arc::clone(&lane), Arc::clone(&tls.client)));
            }
            Some(async move { lane.herald().is_settled(number).await })
        });
        if timeout(WAIT, join_all(told)).await.is_err() {
            tracing::debug!("not every proxy could be told of an ended session in time");
        }
    }
}

/// Tells one proxy all that waits for it.
async fn tell(lane: Arc<Lane>, tls: Arc<ClientConfig>) {
    while let Some(sessions) = lane.herald().next() {
        let count = sessions.len();
        match timeout(ANSWER, lane.send(&tls, message(sessions))).await {
            Ok(Sent::Answered(answer)) if answer.status().is_success() => {}
            Ok(Sent::Answered(answer)) => {
                let status = answer.status();
                tracing::debug!(%status, proxy = lane.address(), "a proxy takes no ended sessions");
            }
            Ok(Sent::Unsent | Sent::Lost(_)) | Err(_) => {
                tracing::debug!(proxy = lane.address(), count, "ended sessions were not told");
            }
        }
        lane.herald().settle(count);
    }
}

fn message(sessions: Vec<EndedSession>) -> Request<Full<Bytes>> {
    let sessions = sessions.into_iter().map(Into::into).collect();
    let body = wire::SessionsEnded { sessions }.encode_to_vec();
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(URI);
    let media = HeaderValue::from_static("application/x-protobuf");
    request.headers_mut().insert(header::CONTENT_TYPE, media);
    request
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn session(number: usize) -> EndedSession {
        let mut id = [0xff; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        EndedSession { id, expire_time_ms: i64::MAX }
    }

    #[tokio::test]
    async fn what_ends_during_a_message_goes_with_the_next() {
        let herald = Herald::default();
        let first = herald.note(session(1)).unwrap();
        assert!(first.is_first);
        assert_eq!(herald.next().unwrap(), [session(1)]);
        let (second, third) = (herald.note(session(2)).unwrap(), herald.note(session(3)).unwrap());
        assert!(!second.is_first && !third.is_first, "one message at a time");
        herald.settle(1);
        herald.is_settled(first.number).await;
        let not_yet = timeout(Duration::from_millis(1), herald.is_settled(second.number)).await;
        assert!(not_yet.is_err());
        assert_eq!(herald.next().unwrap(), [session(2), session(3)]);
        herald.settle(2);
        herald.is_settled(third.number).await;
        assert_eq!(herald.next(), None);
        assert!(herald.note(session(4)).unwrap().is_first, "telling begins again");
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_fits_its_messages() {
        let herald = Herald::default();
        for number in 0..WAITING {
            assert!(herald.note(session(number)).is_some());
        }
        assert!(herald.note(session(WAITING)).is_none());
        let mut told = 0;
        while let Some(sessions) = herald.next() {
            told += sessions.len();
            let whole = message(sessions).into_body().collect().await.unwrap().to_bytes();
            assert!(whole.len() <= LONGEST, "{}", whole.len());
        }
        assert_eq!(told, WAITING);
    }
}
