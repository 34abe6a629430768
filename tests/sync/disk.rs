//! Last-known-good configuration: whatever happens to the files, one whole revision comes back.

use std::{fs, path::Path};

use data_plane::snapshot::{apply::Record, disk::Disk};
use proptest::prelude::*;
use prost::Message as _;
use proto::{Position, resource::kind, wire};

use crate::{
    configuration::{Store, Write, write},
    key, runner,
};
use control_plane::snapshot::build::Group;

/// A snapshot, the updates after it, and every position on the way.
struct Written {
    store: Store,
    records: Vec<Record>,
    positions: Vec<Position>,
}

fn written(writes: &[Write]) -> Written {
    let mut store = Store::new();
    store.write(&Write::Token(0, 0));
    let mut ledger = store.start();
    let mut positions = vec![ledger.head(Group::StdioHost)];
    let whole = |parts: &[wire::Update]| {
        assert_eq!(parts.len(), 1);
        parts[0].encode_to_vec()
    };
    let mut records = vec![Record::Snapshot(whole(&ledger.update(Group::StdioHost, None)))];
    for write in writes {
        let changes = store.write(write);
        ledger.advance(store.revision, changes);
        let parts = ledger.update(Group::StdioHost, positions.last());
        assert!(parts[0].base.is_some());
        records.push(Record::Delta(whole(&parts)));
        positions.push(ledger.head(Group::StdioHost));
    }
    Written { store, records, positions }
}

fn bytes(record: &Record) -> &[u8] {
    match record {
        Record::Snapshot(bytes) | Record::Delta(bytes) => bytes,
    }
}

#[test]
fn files_cut_anywhere_give_an_earlier_revision_and_never_a_mixture() {
    runner(40)
        .run(&prop::collection::vec(write(), 1..12), |writes| {
            let written = written(&writes);
            let snapshot = key().frame(bytes(&written.records[0]));
            let log: Vec<u8> =
                written.records[1..].iter().flat_map(|it| key().frame(bytes(it))).collect();
            for cut in 0..snapshot.len() {
                prop_assert!(key().replay(&snapshot[..cut], &log).is_none());
            }
            let mut reached = 0;
            for cut in 0..=log.len() {
                let replayed = key().replay(&snapshot, &log[..cut]).unwrap();
                let position = replayed.content.position().unwrap().clone();
                let index = written.positions.iter().position(|it| *it == position).unwrap();
                prop_assert!(index >= reached, "a longer file gives no earlier revision");
                reached = index;
                let expected = written.store.content(&position, Group::StdioHost).unwrap();
                let held = replayed.content.to_snapshot().unwrap().upsert;
                prop_assert!(held.iter().eq(expected.resources().map(|it| &**it)));
            }
            prop_assert_eq!(reached, written.positions.len() - 1);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_flipped_bit_ends_the_reading_before_it() {
    let written = written(&[Write::Tool(1, 1), Write::Tool(2, 2)]);
    let snapshot = key().frame(bytes(&written.records[0]));
    let log: Vec<u8> = written.records[1..].iter().flat_map(|it| key().frame(bytes(it))).collect();
    for index in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[index] ^= 1;
        assert!(key().replay(&damaged, &log).is_none());
    }
    for index in 0..log.len() {
        let mut damaged = log.clone();
        damaged[index] ^= 1;
        let content = key().replay(&snapshot, &damaged).unwrap().content;
        let whole = written.positions.iter().position(|it| Some(it) == content.position());
        assert!(whole.unwrap() < 2);
    }
}

fn reopen(directory: &Path) -> (Disk, Option<Position>) {
    let (disk, content) = Disk::open(directory).unwrap();
    (disk, content.and_then(|it| it.position().cloned()))
}

#[test]
fn a_proxy_boots_from_what_it_wrote_and_goes_on_writing() {
    let directory = tempfile::tempdir().unwrap();
    let written = written(&[Write::Tool(1, 1), Write::Tool(2, 2), Write::Tool(3, 3)]);
    let (mut disk, position) = reopen(directory.path());
    assert_eq!(position, None);
    assert!(disk.wants_snapshot());
    disk.write(&written.records[..2]).unwrap();
    drop(disk);
    let (mut disk, position) = reopen(directory.path());
    assert_eq!(position.as_ref(), Some(&written.positions[1]));
    assert!(!disk.wants_snapshot());
    disk.write(&written.records[2..]).unwrap();
    drop(disk);
    assert_eq!(reopen(directory.path()).1.as_ref(), written.positions.last());
}

#[test]
fn a_damaged_generation_gives_way_to_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let older = written(&[Write::Tool(1, 1)]);
    let newer = written(&[Write::Tool(1, 1), Write::Tool(2, 2)]);
    let (mut disk, _) = reopen(directory.path());
    disk.write(&older.records).unwrap();
    disk.write(&newer.records).unwrap();
    drop(disk);
    let snapshot = directory.path().join("config/00000002.snapshot");
    fs::write(&snapshot, &fs::read(&snapshot).unwrap()[..20]).unwrap();
    let (mut disk, position) = reopen(directory.path());
    assert_eq!(position.as_ref(), older.positions.last());
    assert!(disk.wants_snapshot(), "a log must not go on behind a lost generation");
    assert!(disk.write(&newer.records[1..]).is_err());
    disk.write(&newer.records).unwrap();
    drop(disk);
    assert_eq!(reopen(directory.path()).1.as_ref(), newer.positions.last());
}

#[test]
fn only_two_generations_and_only_for_the_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let written = written(&[]);
    let (mut disk, _) = reopen(directory.path());
    for _ in 0..5 {
        disk.write(&written.records).unwrap();
    }
    let config = directory.path().join("config");
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files: Vec<_> = fs::read_dir(&config).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let names: Vec<_> = files.iter().map(|it| it.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["00000004.log", "00000004.snapshot", "00000005.log", "00000005.snapshot", "key", "lock"]
    );
}

#[test]
fn what_is_forgotten_does_not_come_back_and_two_proxies_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let written = written(&[Write::Remove(kind::TOKEN, 0)]);
    let (mut disk, _) = reopen(directory.path());
    disk.write(&written.records).unwrap();
    assert!(Disk::open(directory.path()).is_err(), "the directory is in use");
    disk.forget().unwrap();
    drop(disk);
    assert_eq!(reopen(directory.path()).1, None);
}
