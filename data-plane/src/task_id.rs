//! Ids of tasks as clients know them: sealed to who created the task at which upstream, so that
//! any proxy finds the way back, and nobody else.

use sha2::{Digest as _, Sha256};

use crate::session::SessionKeys;

const PURPOSE: &[u8] = b"lockgate task v1";
const KEPT_PURPOSE: &[u8] = b"lockgate kept task v1";
/// In no id of ours.
const SEPARATOR: char = '\0';
const CURSOR_PURPOSE: &[u8] = b"lockgate task cursor v1";
/// Longest id that is looked at, in bytes.
const ID_MAX: usize = 4096;

/// A task where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    pub upstream_id: Box<str>,
    /// As the upstream knows it.
    pub id: Box<str>,
}

/// Where a page of tasks begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCursor {
    pub upstream_id: Box<str>,
    /// The upstream's own; `None`: its first page.
    pub cursor: Option<Box<str>>,
}

impl TaskId {
    /// The id for this principal: the same each time while the newest key stays.
    pub fn seal(&self, keys: &SessionKeys, subject: &str) -> Option<String> {
        keys.seal_same(&bound(PURPOSE, subject), &join(&self.upstream_id, &self.id)).ok()
    }

    /// The same of a task that a proxy keeps.
    pub fn seal_at(&self, proxy_id: &str, keys: &SessionKeys, subject: &str) -> Option<String> {
        let place = format!("{proxy_id}{SEPARATOR}{}", self.upstream_id);
        keys.seal_same(&bound(KEPT_PURPOSE, subject), &join(&place, &self.id)).ok()
    }

    /// What an id stands for that was sealed for this principal.
    pub fn open(keys: &SessionKeys, subject: &str, sealed: &str) -> Option<Self> {
        if let Some((upstream_id, id)) = open(keys, &bound(PURPOSE, subject), sealed) {
            return Some(Self { upstream_id, id });
        }
        let (_, task) = Self::open_kept(keys, subject, sealed)?;
        Some(task)
    }

    /// The proxy that keeps a task.
    pub fn keeper(keys: &SessionKeys, subject: &str, sealed: &str) -> Option<Box<str>> {
        Self::open_kept(keys, subject, sealed).map(|(proxy_id, _)| proxy_id)
    }

    fn open_kept(keys: &SessionKeys, subject: &str, sealed: &str) -> Option<(Box<str>, Self)> {
        let (place, id) = open(keys, &bound(KEPT_PURPOSE, subject), sealed)?;
        let (proxy_id, upstream_id) = place.split_once(SEPARATOR)?;
        Some((proxy_id.into(), Self { upstream_id: upstream_id.into(), id }))
    }
}

impl TaskCursor {
    pub fn seal(&self, keys: &SessionKeys, subject: &str) -> Option<String> {
        let cursor = self.cursor.as_ref().map_or_else(String::new, |cursor| format!("+{cursor}"));
        keys.seal_for(&bound(CURSOR_PURPOSE, subject), &join(&self.upstream_id, &cursor)).ok()
    }

    pub fn open(keys: &SessionKeys, subject: &str, sealed: &str) -> Option<Self> {
        let (upstream_id, cursor) = open(keys, &bound(CURSOR_PURPOSE, subject), sealed)?;
        Some(Self { upstream_id, cursor: cursor.strip_prefix('+').map(Into::into) })
    }
}

/// A purpose that is one principal's own.
fn bound(purpose: &[u8], subject: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update(subject.as_bytes());
    hash.finalize().into()
}

fn join(upstream_id: &str, rest: &str) -> Vec<u8> {
    let length = u32::try_from(upstream_id.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, upstream_id.as_bytes(), rest.as_bytes()].concat()
}

fn open(keys: &SessionKeys, purpose: &[u8], sealed: &str) -> Option<(Box<str>, Box<str>)> {
    if sealed.len() > ID_MAX {
        return None;
    }
    let plain = keys.open_for(purpose, sealed).ok()?;
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (upstream_id, rest) = rest.split_at_checked(length)?;
    let text = |bytes| std::str::from_utf8(bytes).ok().map(Into::into);
    Some((text(upstream_id)?, text(rest)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::Secret;

    use super::*;

    fn keys(bytes: &[u8]) -> SessionKeys {
        let keys: Vec<_> = bytes.iter().map(|byte| Secret::new([*byte; 32])).collect();
        SessionKeys::new(&keys)
    }

    fn task(upstream_id: &str, id: &str) -> TaskId {
        TaskId { upstream_id: upstream_id.into(), id: id.into() }
    }

    #[test]
    fn only_its_principal_opens_an_id_whole_and_unchanged() {
        let keys = keys(&[1]);
        let sealed = task("u1", "t1").seal(&keys, "ann").unwrap();
        assert_eq!(TaskId::open(&keys, "ann", &sealed), Some(task("u1", "t1")));
        assert_eq!(TaskId::open(&keys, "bob", &sealed), None);
        assert_eq!(TaskCursor::open(&keys, "ann", &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(TaskId::open(&keys, "ann", &sealed[..length]), None);
        }
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
            let forged = String::from_utf8(forged).unwrap();
            assert_ne!(TaskId::open(&keys, "ann", &forged), Some(task("u1", "t2")), "byte {at}");
            let found = TaskId::open(&keys, "ann", &forged);
            // The last character has bits that mean nothing.
            assert!(found.is_none() || at + 1 == sealed.len(), "byte {at}");
        }
    }

    #[test]
    fn an_id_may_name_the_proxy_that_keeps_its_task() {
        let keys = keys(&[1]);
        let kept = task("u1", "t1").seal_at("p1", &keys, "ann").unwrap();
        assert_eq!(TaskId::open(&keys, "ann", &kept), Some(task("u1", "t1")));
        assert_eq!(TaskId::keeper(&keys, "ann", &kept).as_deref(), Some("p1"));
        assert_eq!(TaskId::keeper(&keys, "bob", &kept), None);
        let plain = task("u1", "t1").seal(&keys, "ann").unwrap();
        assert_eq!(TaskId::keeper(&keys, "ann", &plain), None);
    }

    #[test]
    fn an_id_outlives_its_key_as_a_session_does() {
        let sealed = task("u1", "t1").seal(&keys(&[1]), "ann").unwrap();
        assert_eq!(TaskId::open(&keys(&[3, 2, 1]), "ann", &sealed), Some(task("u1", "t1")));
        assert_eq!(TaskId::open(&keys(&[6, 5, 4, 3, 2, 1]), "ann", &sealed), None);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_is_the_same_each_time(
            upstream in ".{0,40}", id in ".{0,80}", subject in ".{0,20}", cursor in prop::option::of(".{0,20}"),
        ) {
            let task = task(&upstream, &id);
            let sealed = task.seal(&keys(&[9]), &subject).unwrap();
            prop_assert_eq!(&sealed, &task.seal(&keys(&[9]), &subject).unwrap());
            prop_assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(TaskId::open(&keys(&[9]), &subject, &sealed), Some(task));
            let cursor = TaskCursor { upstream_id: upstream.as_str().into(), cursor: cursor.map(Into::into) };
            let sealed = cursor.seal(&keys(&[9]), &subject).unwrap();
            prop_assert_eq!(TaskCursor::open(&keys(&[9]), &subject, &sealed), Some(cursor));
        }

        #[test]
        fn two_tasks_never_share_an_id(a in ".{0,9}", b in ".{0,9}", c in ".{0,9}", d in ".{0,9}") {
            let (one, other) = (task(&a, &b), task(&c, &d));
            let same = one.seal(&keys(&[9]), "s") == other.seal(&keys(&[9]), "s");
            prop_assert_eq!(same, one == other);
        }

        #[test]
        fn arbitrary_ids_never_panic(id in ".{0,300}") {
            prop_assert_eq!(TaskId::open(&keys(&[1]), "ann", &id), None);
        }
    }
}
