//! Sessions that were deleted here, until the control plane tells of them too.

use std::collections::HashMap;

use parking_lot::Mutex;
use proto::resource::EndedSession;
use tokio::sync::Notify;

use crate::snapshot::table::Table;

/// Most sessions that wait; those beyond it are refused by this proxy only.
const MOST: usize = 100_000;

/// Ended sessions on their way to the other proxies.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<HashMap<[u8; 16], i64>>,
    news: Notify,
}

impl Outbox {
    /// Notes a session that its client has deleted.
    pub(crate) fn add(&self, id: [u8; 16], expire_time_ms: i64) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST {
            waiting.insert(id, expire_time_ms);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Returns when there may be something to tell.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    /// What is to be told, without what `table` knows or what has expired.
    pub(crate) fn waiting(&self, table: Option<&Table>, now_ms: i64) -> Vec<EndedSession> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|id, expire_time_ms| {
            *expire_time_ms > now_ms && !table.is_some_and(|table| table.has_ended(id))
        });
        let session = |(id, expire_time_ms): (&[u8; 16], &i64)| EndedSession {
            id: *id,
            expire_time_ms: *expire_time_ms,
        };
        waiting.iter().map(session).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        Position,
        resource::{EndedSessionsResource, Resource},
    };

    use super::*;

    #[test]
    fn a_session_waits_until_it_is_known_or_expired() {
        let outbox = Outbox::default();
        outbox.add([1; 16], 100);
        outbox.add([2; 16], 50);
        assert_eq!(outbox.waiting(None, 10).len(), 2);
        let first = EndedSession { id: [1; 16], expire_time_ms: 100 };
        assert_eq!(outbox.waiting(None, 60), [first]);
        let ended = EndedSessionsResource { name: "0".to_owned(), sessions: vec![first] };
        let known = [Resource::EndedSessions(ended)];
        let table = Table::compile(known.iter(), Position::default()).unwrap();
        assert!(outbox.waiting(Some(&table), 60).is_empty());
        assert!(outbox.waiting(None, 60).is_empty());
    }
}
