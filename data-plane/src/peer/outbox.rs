//! Sessions that were deleted here, until the control plane tells of them too: kept in a file, so
//! that a proxy that dies in between still refuses them when it is back, and tells of them.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use proto::resource::EndedSession;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use crate::snapshot::{disk, table::Table};

/// Most sessions that wait; those beyond it are refused by this proxy only.
const MOST: usize = 100_000;
/// How long what the configuration tells of stays in the file: until that is on disk, too.
const SETTLED_KEPT: Duration = Duration::from_mins(1);
/// Records that may be in the file although nobody needs them.
const SLACK: usize = 4096;
/// One record: id, time of expiry, check sum.
const RECORD: usize = 16 + 8 + 8;

/// Ended sessions on their way to the other proxies.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<[u8; 16], i64>,
    /// What the configuration tells of since then.
    settled: VecDeque<(Instant, EndedSession)>,
    file: Option<Journal>,
}

/// The file. What is in it survives the process, not the machine: by then it has been told.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    records: usize,
}

impl Outbox {
    /// One that is kept in a directory, with what is there from an earlier life.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("ended");
        let saved = read(&path);
        let waiting = saved.iter().map(|session| (session.id, session.expire_time_ms)).collect();
        let file = Journal::write(path, &saved)
            .inspect_err(|error| tracing::warn!(%error, "deleted sessions are not kept on disk"));
        let state = State { waiting, settled: VecDeque::new(), file: file.ok() };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    /// Notes a session that its client has deleted.
    pub(crate) fn add(&self, id: [u8; 16], expire_time_ms: i64) {
        let mut state = self.state.lock();
        if state.waiting.len() < MOST {
            state.waiting.insert(id, expire_time_ms);
            if let Some(file) = &mut state.file {
                file.append(EndedSession { id, expire_time_ms });
            }
        }
        drop(state);
        self.news.notify_one();
    }

    /// Returns when there may be something to tell.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    /// What is to be told, without what `table` knows or what has expired.
    pub(crate) fn waiting(&self, table: Option<&Table>, now_ms: i64) -> Vec<EndedSession> {
        let mut state = self.state.lock();
        let State { waiting, settled, file } = &mut *state;
        let now = Instant::now();
        waiting.retain(|id, expire_time_ms| {
            let is_known = table.is_some_and(|table| table.has_ended(id));
            if is_known {
                settled.push_back((now, EndedSession { id: *id, expire_time_ms: *expire_time_ms }));
            }
            *expire_time_ms > now_ms && !is_known
        });
        while settled.front().is_some_and(|(at, _)| now.duration_since(*at) > SETTLED_KEPT) {
            settled.pop_front();
        }
        let session = |(id, expire_time_ms): (&[u8; 16], &i64)| EndedSession {
            id: *id,
            expire_time_ms: *expire_time_ms,
        };
        let told: Vec<_> = waiting.iter().map(session).collect();
        let needed = told.len() + settled.len();
        if let Some(journal) = file.take_if(|file| file.records > 2 * needed + SLACK) {
            let kept = settled.iter().map(|(_, session)| *session).chain(told.iter().copied());
            let rewritten = Journal::write(journal.path.clone(), &kept.collect::<Vec<_>>());
            *file = Some(rewritten.unwrap_or(journal));
        }
        told
    }
}

impl Journal {
    /// A file with these sessions in it, in the place of the one that is there.
    fn write(path: PathBuf, sessions: &[EndedSession]) -> Result<Self, disk::DiskError> {
        let bytes: Vec<u8> = sessions.iter().flat_map(record).collect();
        disk::write_whole(&path, &bytes)?;
        let file = OpenOptions::new().append(true).mode(0o600).open(&path);
        match file {
            Ok(file) => Ok(Self { path, file, records: sessions.len() }),
            Err(source) => Err(disk::DiskError::Io { action: "open", path, source }),
        }
    }

    fn append(&mut self, session: EndedSession) {
        match self.file.write_all(&record(&session)) {
            Ok(()) => self.records += 1,
            Err(error) => {
                tracing::warn!(%error, "a deleted session is not kept on disk");
                // Half a record would hide all that follow.
                let whole = u64::try_from(self.records * RECORD).unwrap_or(u64::MAX);
                if let Err(error) = self.file.set_len(whole) {
                    tracing::warn!(%error, "the file of deleted sessions may be damaged");
                }
            }
        }
    }
}

fn record(session: &EndedSession) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let sum = sum(session);
    let bytes = session.id.into_iter().chain(session.expire_time_ms.to_be_bytes()).chain(sum);
    record.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    record
}

fn sum(session: &EndedSession) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(session.id);
    hash.update(session.expire_time_ms.to_be_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().copied().unwrap_or_default()
}

/// The sessions in a file, without what is damaged: a record that was being written.
fn read(path: &Path) -> Vec<EndedSession> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "cannot read which sessions were deleted");
            Vec::new()
        }
    };
    let session = |record: &[u8]| {
        let (id, rest) = record.split_first_chunk::<16>()?;
        let (expire, found) = rest.split_first_chunk::<8>()?;
        let session = EndedSession { id: *id, expire_time_ms: i64::from_be_bytes(*expire) };
        (sum(&session) == *found).then_some(session)
    };
    bytes.chunks(RECORD).filter_map(session).collect()
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

    #[test]
    fn what_waits_outlives_the_process_and_a_torn_record() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = |outbox: &Outbox| {
            let mut ids: Vec<_> = outbox.waiting(None, 0).iter().map(|it| it.id).collect();
            ids.sort_unstable();
            ids
        };
        let outbox = Outbox::open(directory.path());
        outbox.add([1; 16], 100);
        outbox.add([2; 16], 100);
        drop(outbox);
        let path = directory.path().join("ended");
        let mut torn = fs::read(&path).unwrap();
        assert_eq!(torn.len(), 2 * RECORD);
        torn.extend_from_slice(&[7; RECORD - 1]);
        fs::write(&path, torn).unwrap();
        let outbox = Outbox::open(directory.path());
        assert_eq!(sessions(&outbox), [[1; 16], [2; 16]]);
        outbox.add([3; 16], 100);
        assert_eq!(sessions(&Outbox::open(directory.path())), [[1; 16], [2; 16], [3; 16]]);
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(directory.path());
        for number in 0..2 * SLACK {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            outbox.add(id, 100);
        }
        outbox.add([9; 16], 1000);
        let length = || fs::metadata(directory.path().join("ended")).unwrap().len();
        assert_eq!(length(), ((2 * SLACK + 1) * RECORD) as u64);
        // All but one have expired.
        assert_eq!(outbox.waiting(None, 500).len(), 1);
        assert_eq!(length(), RECORD as u64);
        outbox.add([8; 16], 1000);
        assert_eq!(Outbox::open(directory.path()).waiting(None, 500).len(), 2);
    }
}
