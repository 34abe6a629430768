//! The current views, how they came about, and the updates that lead to them: without I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use prost::Message as _;
use proto::{Position, RootHash, resource::Resource, wire};

use super::build::{Builder, Change, Group, Touched};

/// Most bytes of one part of an update. Each stream keeps a buffer in which a part of the largest
/// size has found room, for as long as it lasts.
pub const PART_MAX: usize = 64 * 1024;
/// Changed keys that are remembered, so that a proxy some way back gets a delta.
const REMEMBERED_KEYS: usize = 65_536;

/// Parts of one update, shared by all proxies that need the same.
pub type Parts = Arc<[wire::Update]>;

/// Content of one revision for every group, and the way there.
#[derive(Debug)]
pub struct Ledger {
    epoch: String,
    revision: u64,
    builder: Builder,
    /// What each later revision changed, oldest first.
    log: VecDeque<Step>,
    /// The log says what changed after this revision.
    floor: u64,
    remembered: usize,
    /// Updates to the head that were asked for, by group and base revision.
    cache: BTreeMap<(Group, Option<u64>), Parts>,
}

/// One revision in the log.
#[derive(Debug)]
struct Step {
    revision: u64,
    /// Thousands of steps are remembered, most of one key and of the same as the one before, whose
    /// keys they share.
    keys: Arc<[wire::ResourceKey]>,
    /// Content after it; unknown where the log was read from the store.
    roots: Option<[RootHash; 2]>,
}

impl Ledger {
    /// Builds everything at `revision`.
    pub fn new(
        epoch: String,
        revision: u64,
        resources: impl IntoIterator<Item = Resource>,
    ) -> (Self, Touched) {
        let mut builder = Builder::default();
        let touched = builder.rebuild(resources);
        let (log, cache) = (VecDeque::new(), BTreeMap::new());
        let ledger = Self { epoch, revision, builder, log, floor: revision, remembered: 0, cache };
        (ledger, touched)
    }

    /// Remembers what the store says was changed before the head: `changes` is
    /// complete for every revision above `floor`.
    pub fn remember(&mut self, floor: u64, changes: Vec<(u64, wire::ResourceKey)>) {
        let mut steps: BTreeMap<u64, BTreeSet<wire::ResourceKey>> = BTreeMap::new();
        for (revision, key) in changes {
            if revision > floor && revision <= self.floor {
                steps.entry(revision).or_default().insert(key);
            }
        }
        for (revision, keys) in steps.into_iter().rev() {
            self.remembered += keys.len();
            let keys = keys.into_iter().collect();
            self.log.push_front(Step { revision, keys, roots: None });
        }
        self.floor = floor.min(self.floor);
        self.forget();
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    pub fn builder(&self) -> &Builder {
        &self.builder
    }

    /// Where a group is when it has everything.
    pub fn head(&self, group: Group) -> Position {
        Position {
            store_epoch: self.epoch.clone(),
            revision: self.revision,
            root_hash: self.builder.view(group).root(),
        }
    }

    /// Takes what changed up to `revision`. A revision that is not newer is ignored.
    pub fn advance(&mut self, revision: u64, changes: impl IntoIterator<Item = Change>) -> Touched {
        if revision <= self.revision {
            return Touched::default();
        }
        let touched = self.builder.apply(changes);
        self.step(revision, touched.keys.clone());
        touched
    }

    /// Takes everything anew at `revision`, when it is not known what changed.
    pub fn rebuild(
        &mut self,
        revision: u64,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Touched {
        let touched = self.builder.rebuild(resources);
        self.step(revision.max(self.revision), touched.keys.clone());
        touched
    }

    fn step(&mut self, revision: u64, keys: BTreeSet<wire::ResourceKey>) {
        self.revision = revision;
        self.cache.clear();
        self.remembered += keys.len();
        let roots = Some([Group::Edge, Group::StdioHost].map(|it| self.builder.view(it).root()));
        let keys = match self.log.back() {
            Some(last) if last.keys.iter().eq(&keys) => Arc::clone(&last.keys),
            Some(_) | None => keys.into_iter().collect(),
        };
        self.log.push_back(Step { revision, keys, roots });
        self.forget();
    }

    fn forget(&mut self) {
        while self.remembered > REMEMBERED_KEYS {
            let Some(step) = self.log.pop_front() else { return };
            self.remembered -= step.keys.len();
            self.floor = step.revision;
        }
    }

    /// The update that leads from `base` to the head: a delta where it is known
    /// what changed since, else a snapshot.
    pub fn update(&mut self, group: Group, base: Option<&Position>) -> Parts {
        let base = base.filter(|base| self.knows(group, base));
        let slot = (group, base.map(|base| base.revision));
        if let Some(parts) = self.cache.get(&slot)
            && parts.first().and_then(|part| part.base.as_ref())
                == base.cloned().map(Into::into).as_ref()
        {
            return Arc::clone(parts);
        }
        let parts: Parts = match base {
            None => self.snapshot(group),
            Some(base) => self.delta(group, base),
        }
        .into();
        self.cache.insert(slot, Arc::clone(&parts));
        parts
    }

    /// Whether the log leads from `base` to the head.
    fn knows(&self, group: Group, base: &Position) -> bool {
        if base.store_epoch != self.epoch
            || base.revision < self.floor
            || base.revision >= self.revision
        {
            return false;
        }
        let step = self.log.iter().rev().find(|step| step.revision == base.revision);
        // Of a revision without known hash, the proxy checks the hash itself.
        let root = step.and_then(|step| step.roots).map(|[edge, stdio_host]| match group {
            Group::Edge => edge,
            Group::StdioHost => stdio_host,
        });
        root.is_none_or(|root| root == base.root_hash)
    }

    fn snapshot(&self, group: Group) -> Vec<wire::Update> {
        let mut parts = PartsBuilder::new(None, self.head(group));
        for resource in self.builder.view(group).resources() {
            parts.upsert(resource);
        }
        parts.finish()
    }

    fn delta(&self, group: Group, base: &Position) -> Vec<wire::Update> {
        let view = self.builder.view(group);
        let steps = self.log.iter().rev().take_while(|step| step.revision > base.revision);
        let keys: BTreeSet<_> = steps.flat_map(|step| step.keys.iter()).collect();
        let mut parts = PartsBuilder::new(Some(base.clone()), self.head(group));
        for key in keys {
            match view.get(key) {
                Some(resource) => parts.upsert(resource),
                None => parts.remove(key),
            }
        }
        parts.finish()
    }
}

/// Cuts an update into parts of at most [`PART_MAX`] bytes.
struct PartsBuilder {
    empty: wire::Update,
    parts: Vec<wire::Update>,
    current: wire::Update,
    bytes: usize,
}

impl PartsBuilder {
    fn new(base: Option<Position>, target: Position) -> Self {
        let empty = wire::Update {
            base: base.map(Into::into),
            target: Some(target.into()),
            ..wire::Update::default()
        };
        let current = empty.clone();
        Self { bytes: empty.encoded_len(), empty, parts: Vec::new(), current }
    }

    fn room_for(&mut self, bytes: usize) {
        // Tag and length of the field.
        let bytes = bytes + 8;
        if self.bytes + bytes > PART_MAX {
            let full = std::mem::replace(&mut self.current, self.empty.clone());
            self.parts.push(full);
            self.bytes = self.empty.encoded_len();
        }
        self.bytes += bytes;
    }

    fn upsert(&mut self, resource: &wire::Resource) {
        self.room_for(resource.encoded_len());
        self.current.upsert.push(resource.clone());
    }

    fn remove(&mut self, key: &wire::ResourceKey) {
        self.room_for(key.encoded_len());
        self.current.remove.push(key.clone());
    }

    fn finish(mut self) -> Vec<wire::Update> {
        self.current.last = true;
        self.parts.push(self.current);
        self.parts
    }
}
