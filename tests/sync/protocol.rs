//! Follower and applier under loss, duplication, reordering, delay, disconnects and crashes.

use std::collections::{BTreeSet, VecDeque};

use control_plane::snapshot::{
    build::{Group, View},
    follower::Follower,
    ledger::Ledger,
};
use data_plane::snapshot::{
    apply::{Applier, Compile, Record, Step},
    content::Content,
};
use proptest::prelude::*;
use proto::{
    Applied, Outcome, Position,
    proxy::FieldError,
    resource::{Resource, kind},
    wire,
};

use crate::{
    configuration::{Store, Write, write},
    key, runner,
};

#[derive(Clone, Debug)]
enum Event {
    Write(Write),
    /// The control plane looks whether there is something to send.
    Publish,
    Beat,
    DeliverDown,
    DeliverUp,
    LoseDown,
    LoseUp,
    RepeatDown,
    RepeatUp,
    SwapDown,
    Disconnect,
    CrashProxy,
    CrashControl,
    /// The change log was cut: only snapshots are possible.
    CrashControlAndLog,
    RestoreBackup,
    SyncDisk,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => write().prop_map(Event::Write),
        8 => Just(Event::Publish),
        2 => Just(Event::Beat),
        12 => Just(Event::DeliverDown),
        8 => Just(Event::DeliverUp),
        1 => Just(Event::LoseDown),
        1 => Just(Event::LoseUp),
        1 => Just(Event::RepeatDown),
        1 => Just(Event::RepeatUp),
        1 => Just(Event::SwapDown),
        1 => Just(Event::Disconnect),
        1 => Just(Event::CrashProxy),
        1 => Just(Event::CrashControl),
        1 => Just(Event::CrashControlAndLog),
        1 => Just(Event::RestoreBackup),
        1 => Just(Event::SyncDisk),
    ]
}

enum Down {
    Part(wire::Update),
    Beat(u64),
}

/// One stream, with what is under way on it.
struct Link {
    follower: Follower,
    down: VecDeque<Down>,
    up: VecDeque<Applied>,
}

/// The files of the proxy: what is on the medium, and what a crash may lose.
#[derive(Default)]
struct Medium {
    snapshot: Vec<u8>,
    log: Vec<u8>,
    waiting: Vec<Record>,
}

impl Medium {
    fn sync(&mut self) {
        for record in self.waiting.drain(..) {
            match record {
                Record::Snapshot(bytes) => {
                    self.snapshot = key().frame(&bytes);
                    self.log.clear();
                }
                Record::Delta(bytes) => self.log.extend(key().frame(&bytes)),
            }
        }
    }
}

struct World {
    group: Group,
    store: Store,
    ledger: Ledger,
    applier: Applier<()>,
    medium: Medium,
    link: Option<Link>,
    /// What this process served, in order.
    served: Vec<Position>,
    /// Highest revision that reached this process.
    reached: u64,
    /// Target that was refused in this life of the proxy.
    rejected: Option<Position>,
    resyncs: u32,
    /// Grants that are gone for good: ACTIVE was answered after their removal.
    gone: BTreeSet<wire::ResourceKey>,
}

fn applier() -> Applier<()> {
    let is_poison = |it: &Resource| matches!(it, Resource::Tool(tool) if tool.id == "poison");
    let compile: Compile<()> = Box::new(move |mut resources, _, _| {
        if !Iterator::any(&mut resources, is_poison) {
            return Ok(());
        }
        Err(vec![FieldError {
            resource: "tool/poison".to_owned(),
            field: "definition".to_owned(),
            message: "is poison".to_owned(),
        }])
    });
    Applier::new(compile)
}

impl World {
    fn new(group: Group) -> Self {
        let store = Store::new();
        let ledger = store.start();
        Self {
            group,
            store,
            ledger,
            applier: applier(),
            medium: Medium::default(),
            link: None,
            served: Vec::new(),
            reached: 0,
            rejected: None,
            resyncs: 0,
            gone: BTreeSet::new(),
        }
    }

    fn connect(&mut self) -> &mut Link {
        if self.link.is_none() {
            self.applier.connected();
            let active = self.applier.position().cloned();
            let follower = Follower::new(self.group, active, self.rejected.clone());
            self.link = Some(Link { follower, down: VecDeque::new(), up: VecDeque::new() });
        }
        self.link.as_mut().unwrap()
    }

    fn publish(&mut self) -> bool {
        self.connect();
        let Some(link) = &mut self.link else { return false };
        let Some(parts) = link.follower.next(&mut self.ledger) else { return false };
        link.down.extend(parts.iter().cloned().map(Down::Part));
        true
    }

    fn deliver_down(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(message) = link.down.pop_front() else { return false };
        match message {
            Down::Beat(revision) => {
                if self.applier.bookmark(revision).is_err() {
                    self.link = None;
                } else {
                    assert!(self.reached >= revision, "P6: a bookmark beyond what was received");
                }
            }
            Down::Part(part) => self.part(part),
        }
        true
    }

    fn part(&mut self, part: wire::Update) {
        let before = self.applier.position().cloned();
        let held = grants(self.applier.content());
        let done = match self.applier.part(part) {
            Err(_) => {
                self.link = None;
                assert_eq!(self.applier.position(), before.as_ref(), "a violation changes nothing");
                self.check_content();
                return;
            }
            Ok(Step::More) => return,
            Ok(Step::Done(done)) => done,
        };
        let answer = done.answer(1);
        self.reached = self.reached.max(done.target.revision);
        if let Ok(change) = done.result {
            self.activated(&done.target);
            self.medium.waiting.push(change.record);
            if change.takes_grants {
                self.medium.sync();
            }
            let now = grants(self.applier.content());
            self.gone.extend(held.difference(&now).cloned());
            self.gone.retain(|key| !now.contains(key));
        } else {
            assert_eq!(self.applier.position(), before.as_ref(), "a refusal changes nothing");
            self.resyncs += u32::from(answer.outcome == Outcome::Resync);
            if answer.outcome == Outcome::Rejected {
                assert!(!answer.errors.is_empty());
                self.rejected = Some(done.target);
            }
        }
        self.check_content();
        self.link.as_mut().unwrap().up.push_back(answer);
    }

    /// P1 and P2.
    fn activated(&mut self, target: &Position) {
        if let Some(last) = self.served.last() {
            assert!(
                last.store_epoch != target.store_epoch || last.revision < target.revision,
                "P1: {target:?} after {last:?}"
            );
        }
        assert!(!self.served.contains(target), "P2: {target:?} twice");
        self.served.push(target.clone());
    }

    /// P3 and P4: what is served is exactly the content of one revision.
    fn check_content(&self) {
        let Some(position) = self.applier.position() else { return };
        let expected = self.store.content(position, self.group).expect("a revision that existed");
        assert_same(self.applier.content(), expected);
        assert_eq!(expected.root(), position.root_hash);
    }

    fn deliver_up(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(applied) = link.up.pop_front() else { return false };
        if link.follower.answered(&applied).is_err() {
            self.link = None;
        }
        true
    }

    fn crash_proxy(&mut self) {
        self.link = None;
        self.medium.waiting.clear();
        self.applier = applier();
        self.rejected = None;
        self.reached = 0;
        self.served.clear();
        if let Some(replayed) = key().replay(&self.medium.snapshot, &self.medium.log) {
            self.reached = replayed.content.position().unwrap().revision;
            self.served.extend(replayed.content.position().cloned());
            self.applier.restore(replayed.content).unwrap();
        }
        self.check_content();
        // What was taken away and confirmed stays away.
        assert!(grants(self.applier.content()).is_disjoint(&self.gone), "a removal came back");
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Write(write) => {
                let changes = self.store.write(&write);
                self.ledger.advance(self.store.revision, changes);
                let oracle = self.store.start();
                assert_eq!(
                    self.ledger.builder().view(self.group),
                    oracle.builder().view(self.group),
                    "incremental and full build differ"
                );
            }
            Event::Publish => drop(self.publish()),
            Event::Beat => {
                if let Some(link) = &mut self.link {
                    link.down.push_back(Down::Beat(link.follower.bookmark()));
                }
            }
            Event::DeliverDown => drop(self.deliver_down()),
            Event::DeliverUp => drop(self.deliver_up()),
            Event::Disconnect => self.link = None,
            Event::CrashProxy => self.crash_proxy(),
            Event::CrashControl => {
                self.link = None;
                self.ledger = self.store.start_remembering();
            }
            Event::CrashControlAndLog => {
                self.link = None;
                self.ledger = self.store.start();
            }
            Event::RestoreBackup => {
                self.link = None;
                self.gone.clear();
                self.store.restore();
                self.ledger = self.store.start();
            }
            Event::SyncDisk => self.medium.sync(),
            fault => self.disturb(&fault),
        }
    }

    fn disturb(&mut self, fault: &Event) {
        let Some(link) = &mut self.link else { return };
        match fault {
            Event::LoseDown => drop(link.down.pop_front()),
            Event::LoseUp => drop(link.up.pop_front()),
            Event::RepeatUp => link.up.extend(link.up.front().cloned()),
            Event::RepeatDown => {
                if let Some(Down::Part(part)) = link.down.front() {
                    let again = Down::Part(part.clone());
                    link.down.push_front(again);
                }
            }
            Event::SwapDown if link.down.len() > 1 => link.down.swap(0, 1),
            _ => {}
        }
    }

    /// No more faults: everything under way arrives, a silent stream is closed.
    fn settle(&mut self) {
        for round in 0..64 {
            while self.publish() | self.deliver_down() | self.deliver_up() {}
            let link = self.link.as_ref().unwrap();
            if !link.follower.is_waiting() {
                let head = self.ledger.head(self.group);
                let active = self.applier.position();
                assert!(round < 16, "P5: {round} streams were needed");
                if self.store.is_poisoned() {
                    assert_eq!(self.rejected, Some(head), "a refused head is known and not resent");
                } else {
                    assert_eq!(active, Some(&head), "P4: not converged");
                }
                return;
            }
            self.link = None;
        }
        panic!("never quiet");
    }
}

fn grants(content: &Content) -> BTreeSet<wire::ResourceKey> {
    let resources = content.to_snapshot().unwrap_or_default().upsert;
    let keys = resources.into_iter().filter_map(|it| it.key);
    keys.filter(|key| [kind::TOKEN, kind::CREDENTIAL].contains(&key.kind.as_str())).collect()
}

fn assert_same(content: &Content, view: &View) {
    let held = content.to_snapshot().unwrap_or_default().upsert;
    let expected: Vec<_> = view.resources().map(|it| (**it).clone()).collect();
    assert_eq!(held, expected, "P3: a mixture of revisions");
}

#[test]
fn without_faults_no_stream_breaks_and_nothing_is_sent_anew() {
    let event = prop_oneof![
        write().prop_map(Event::Write),
        Just(Event::Publish),
        Just(Event::Beat),
        Just(Event::DeliverDown),
        Just(Event::DeliverUp),
    ];
    runner(200)
        .run(&prop::collection::vec(event, 1..100), |events| {
            let mut world = World::new(Group::Edge);
            world.connect();
            for event in events {
                world.step(event);
                prop_assert!(world.link.is_some(), "the stream broke");
            }
            prop_assert_eq!(world.resyncs, 0);
            world.settle();
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_promises_hold_under_any_fault_and_everything_converges() {
    let group = prop_oneof![Just(Group::Edge), Just(Group::StdioHost)];
    let events = prop::collection::vec(event(), 1..150);
    runner(600)
        .run(&(group, events), |(group, events)| {
            let mut world = World::new(group);
            for event in events {
                world.step(event);
            }
            world.settle();
            world.crash_proxy();
            world.settle();
            Ok(())
        })
        .unwrap();
}
