//! What updates say of themselves.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use proto::{
    RootHash,
    resource::{EndedSession, EndedSessionsResource},
};

use super::*;
use crate::snapshot::table::tests::{token, upstream};

/// What a control plane has, as its updates tell it.
pub(in crate::snapshot) struct Store {
    pub(in crate::snapshot) position: Position,
    resources: BTreeMap<wire::ResourceKey, wire::Resource>,
}

impl Store {
    pub(in crate::snapshot) fn of(resources: &[Resource]) -> Self {
        let position = Position { store_epoch: "e1".to_owned(), ..Position::default() };
        let mut store = Self { position, resources: BTreeMap::new() };
        store.delta(resources, &[]);
        store
    }

    /// All that there is.
    pub(in crate::snapshot) fn snapshot(&mut self) -> wire::Update {
        self.advance();
        let target = Some(self.position.clone().into());
        let upsert = self.resources.values().cloned().collect();
        wire::Update { base: None, target, upsert, remove: Vec::new(), last: true }
    }

    /// What changes now.
    pub(in crate::snapshot) fn delta(
        &mut self,
        upsert: &[Resource],
        remove: &[Resource],
    ) -> wire::Update {
        let base = Some(self.position.clone().into());
        let upsert: Vec<_> = upsert.iter().map(|it| it.clone().encode()).collect();
        let remove = remove.iter().map(|it| it.clone().encode().key.unwrap());
        let remove: Vec<_> = remove.collect();
        self.resources.retain(|key, _| !remove.contains(key));
        self.resources.extend(upsert.iter().map(|it| (it.key.clone().unwrap(), it.clone())));
        self.advance();
        let target = Some(self.position.clone().into());
        wire::Update { base, target, upsert, remove, last: true }
    }

    fn advance(&mut self) {
        self.position.revision += 1;
        self.position.root_hash = RootHash::default();
        for resource in self.resources.values() {
            self.position.root_hash.add(RootHash::of(resource));
        }
    }
}

/// A session that has ended.
pub(in crate::snapshot) fn ended(id: u8) -> Resource {
    let sessions = vec![EndedSession { id: [id; 16], expire_time_ms: 1 }];
    Resource::EndedSessions(EndedSessionsResource { name: id.to_string(), sessions })
}

#[test]
fn an_update_of_ended_sessions_alone_says_so_and_no_other() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let mut applier = Applier::new(Box::new(move |_, _, changed| {
        note.lock().push(match changed {
            Changed::Anything | Changed::Only(..) => None,
            Changed::EndedSessions(since) => Some(since.clone()),
        });
        Ok(())
    }));
    let mut take = |update| {
        let Ok(Step::Done(done)) = applier.part(update) else { panic!("it is not whole") };
        done.result.unwrap();
        seen.lock().pop().unwrap()
    };
    let revoked = Resource::Token(token("secret", "alice"));
    let mut store = Store::of(&[revoked.clone(), ended(1)]);
    assert_eq!(take(store.snapshot()), None);
    let before = store.position.clone();
    assert_eq!(take(store.delta(&[ended(2), ended(3)], &[])), Some(before));
    let before = store.position.clone();
    assert_eq!(take(store.delta(&[ended(4)], &[ended(1)])), Some(before));
    assert_eq!(take(store.delta(&[ended(5)], &[revoked])), None);
    let another = Resource::Upstream(upstream("a", "a"));
    assert_eq!(take(store.delta(&[another, ended(6)], &[])), None);
    assert_eq!(take(store.snapshot()), None);
}

#[test]
fn a_small_update_tells_what_it_changes() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let mut applier = Applier::new(Box::new(move |_, _, changed| {
        note.lock().push(match changed {
            Changed::Anything | Changed::EndedSessions(_) => None,
            Changed::Only(since, differences) => {
                let own = differences.iter().map(|it| (it.before.cloned(), it.now.cloned()));
                Some((since.clone(), own.collect::<Vec<_>>()))
            }
        });
        Ok(())
    }));
    let mut take = |update| {
        let Ok(Step::Done(done)) = applier.part(update) else { panic!("it is not whole") };
        done.result.unwrap();
        seen.lock().pop().unwrap()
    };
    let [one, another] = ["one", "another"].map(|name| Resource::Upstream(upstream("a", name)));
    let b = Resource::Upstream(upstream("b", "b"));
    let mut store = Store::of(std::slice::from_ref(&one));
    assert_eq!(take(store.snapshot()), None);
    let before = store.position.clone();
    let told = take(store.delta(std::slice::from_ref(&another), &[]));
    let [was_one, is_another] = [&one, &another].map(|it| Some(it.clone()));
    assert_eq!(told, Some((before, vec![(was_one.clone(), is_another.clone())])));
    let mut take = |update| take(update).map(|(_, told)| told);
    let back = (is_another, was_one.clone());
    let told = take(store.delta(&[one.clone(), b.clone()], &[]));
    assert_eq!(told, Some(vec![back, (None, Some(b.clone()))]));
    let told = take(store.delta(&[], std::slice::from_ref(&b)));
    assert_eq!(told, Some(vec![(Some(b.clone()), None)]));
    // Each key once, and what is sent and removed stays.
    let mut both = store.delta(std::slice::from_ref(&one), &[]);
    both.remove.extend(both.upsert.iter().filter_map(|it| it.key.clone()));
    assert_eq!(take(both), Some(vec![(was_one.clone(), was_one)]));
    let mut twice = store.delta(&[], std::slice::from_ref(&one));
    twice.remove.extend_from_within(..);
    assert_eq!(take(twice), Some(vec![(Some(one), None)]));
    let many = (0..=TOLD_MAX).map(|number| Resource::Upstream(upstream(&number.to_string(), "m")));
    let many: Vec<_> = many.collect();
    assert_eq!(take(store.delta(&many, &[])), None);
    assert_eq!(take(store.delta(&many, &[])), None);
    assert!(take(store.delta(&many[1..], &[])).is_some());
}
