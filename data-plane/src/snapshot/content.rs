//! All configuration that a proxy holds: changed whole or not at all, and checked by hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use proto::{Invalid, Position, RootHash, proxy::FieldError, resource, wire};

/// Kinds whose loss takes a right away: a proxy must not get them back by a crash.
const GRANTS: [&str; 3] = [resource::kind::TOKEN, resource::kind::KEY, resource::kind::CREDENTIAL];

/// One resource, as sent and as read.
#[derive(Clone, Debug)]
pub struct Entry {
    body: Vec<u8>,
    hash: RootHash,
    resource: resource::Resource,
}

/// Resources by key, the sum of their hashes, and the position that they are.
#[derive(Clone, Debug, Default)]
pub struct Content {
    entries: BTreeMap<wire::ResourceKey, Entry>,
    root: RootHash,
    position: Option<Position>,
}

/// Why an update cannot be applied; the content is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("the update names no position")]
    NoTarget,
    #[error("the update starts from another position")]
    OtherBase,
    #[error("the content would not have the announced hash")]
    OtherHash,
    #[error("{} resources are invalid", .0.len())]
    Refused(Vec<FieldError>),
}

/// What [`Content::apply`] replaced.
#[derive(Debug)]
pub struct Undo {
    previous: Previous,
    root: RootHash,
    position: Option<Position>,
}

/// One resource before an update and after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference<'a> {
    pub before: Option<&'a resource::Resource>,
    pub now: Option<&'a resource::Resource>,
}

#[derive(Debug)]
enum Previous {
    Whole(BTreeMap<wire::ResourceKey, Entry>),
    Some(Vec<(wire::ResourceKey, Option<Entry>)>),
}

impl Content {
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every resource, in the order of keys.
    pub fn resources(&self) -> impl Iterator<Item = &resource::Resource> {
        self.entries.values().map(|entry| &entry.resource)
    }

    /// Everything as one update without base; nothing before the first update.
    pub fn to_snapshot(&self) -> Option<wire::Update> {
        let target = self.position.clone()?;
        let upsert = self.entries.iter().map(|(key, entry)| wire::Resource {
            key: Some(key.clone()),
            body: entry.body.clone().into(),
        });
        Some(wire::Update {
            base: None,
            target: Some(target.into()),
            upsert: upsert.collect(),
            remove: Vec::new(),
            last: true,
        })
    }

    /// Applies a complete update: base, hash and every resource are checked
    /// first, so that an error leaves the content untouched.
    pub fn apply(&mut self, update: wire::Update) -> Result<Undo, ContentError> {
        let wire::Update { base, target, upsert, remove, last: _ } = update;
        let target = Position::from(target.ok_or(ContentError::NoTarget)?);
        let base = base.map(Position::from);
        if base.is_some() && base != self.position {
            return Err(ContentError::OtherBase);
        }
        let entries = read(upsert)?;
        let undo = if base.is_some() { self.patch(entries, remove) } else { self.replace(entries) };
        if self.root != target.root_hash {
            self.undo(undo);
            return Err(ContentError::OtherHash);
        }
        self.position = Some(target);
        Ok(undo)
    }

    fn replace(&mut self, entries: BTreeMap<wire::ResourceKey, Entry>) -> Undo {
        let mut root = RootHash::default();
        for entry in entries.values() {
            root.add(entry.hash);
        }
        Undo {
            previous: Previous::Whole(mem::replace(&mut self.entries, entries)),
            root: mem::replace(&mut self.root, root),
            position: self.position.clone(),
        }
    }

    fn patch(
        &mut self,
        entries: BTreeMap<wire::ResourceKey, Entry>,
        remove: Vec<wire::ResourceKey>,
    ) -> Undo {
        let (root, position) = (self.root, self.position.clone());
        let mut previous = Vec::with_capacity(entries.len() + remove.len());
        // What is removed and sent at once is sent.
        let gone = remove.into_iter().filter(|key| !entries.contains_key(key));
        for key in gone.collect::<BTreeSet<_>>() {
            let old = self.entries.remove(&key);
            if let Some(old) = &old {
                self.root.subtract(old.hash);
            }
            previous.push((key, old));
        }
        for (key, entry) in entries {
            self.root.add(entry.hash);
            let old = self.entries.insert(key.clone(), entry);
            if let Some(old) = &old {
                self.root.subtract(old.hash);
            }
            previous.push((key, old));
        }
        Undo { previous: Previous::Some(previous), root, position }
    }

    /// Goes back to what was before the update that gave `undo`.
    pub fn undo(&mut self, undo: Undo) {
        let Undo { previous, root, position } = undo;
        match previous {
            Previous::Whole(entries) => self.entries = entries,
            Previous::Some(entries) => {
                for (key, entry) in entries.into_iter().rev() {
                    match entry {
                        Some(entry) => self.entries.insert(key, entry),
                        None => self.entries.remove(&key),
                    };
                }
            }
        }
        self.root = root;
        self.position = position;
    }

    /// Whether the update that gave `undo` changed nothing but resources of this kind.
    pub fn changes_only(undo: &Undo, kind: &str) -> bool {
        match &undo.previous {
            Previous::Whole(_) => false,
            Previous::Some(entries) => entries.iter().all(|(key, _)| key.kind == kind),
        }
    }

    /// What the update that gave `undo` changed, each key once; `None` if it is more than `most`.
    pub fn differences<'a>(&'a self, undo: &'a Undo, most: usize) -> Option<Vec<Difference<'a>>> {
        let Previous::Some(entries) = &undo.previous else { return None };
        if entries.len() > most {
            return None;
        }
        let differences = entries.iter().map(|(key, before)| Difference {
            before: before.as_ref().map(|it| &it.resource),
            now: self.entries.get(key).map(|it| &it.resource),
        });
        Some(differences.collect())
    }

    /// Whether the update that gave `undo` removed or replaced a token, key or credential.
    pub fn takes_grants(&self, undo: &Undo) -> bool {
        let taken = |key: &wire::ResourceKey, old: &Entry| {
            GRANTS.contains(&key.kind.as_str())
                && self.entries.get(key).is_none_or(|new| new.hash != old.hash)
        };
        match &undo.previous {
            Previous::Whole(entries) => entries.iter().any(|(key, old)| taken(key, old)),
            Previous::Some(entries) => {
                entries.iter().any(|(key, old)| old.as_ref().is_some_and(|old| taken(key, old)))
            }
        }
    }
}

/// Reads every resource, and names every one that is wrong.
fn read(
    resources: Vec<wire::Resource>,
) -> Result<BTreeMap<wire::ResourceKey, Entry>, ContentError> {
    let mut entries = BTreeMap::new();
    let mut errors = Vec::new();
    for wire in resources {
        let hash = RootHash::of(&wire);
        let read = resource::Resource::decode(&wire);
        let wire::Resource { key, body } = wire;
        let key = key.unwrap_or_default();
        match read {
            Ok(resource) => {
                // A copy of its own: what came holds the memory of all that came beside it.
                entries.insert(key, Entry { body: body.to_vec(), hash, resource });
            }
            Err(Invalid { field, problem }) => {
                errors.push(FieldError { resource: key.to_string(), field, message: problem });
            }
        }
    }
    if errors.is_empty() { Ok(entries) } else { Err(ContentError::Refused(errors)) }
}
