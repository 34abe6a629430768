//! When a catalog is read, who waits for it, and who is told.

use super::*;

fn catalog(ttl_ms: u32, tool: &str) -> PrivateCatalog {
    let tools = vec![proto::CatalogTool {
        name: tool.to_owned(),
        definition: format!(r#"{{"name":"{tool}"}}"#),
        needs_client_capabilities: Vec::new(),
    }];
    PrivateCatalog { tools, ttl_ms, ..PrivateCatalog::default() }
}

/// What is read for a caller now: begins it.
fn begin(kept: &Kept, want: Want) -> watch::Sender<()> {
    let Found::Coming(_, Some(begin), _) = kept.find(want) else { panic!("nothing is read") };
    begin
}

fn known(kept: &Kept, want: Want) -> Option<String> {
    let Found::Known(catalog) = kept.find(want) else { panic!("it is read") };
    catalog.map(|catalog| catalog.tools[0].name.clone())
}

#[tokio::test(start_paused = true)]
async fn one_reads_for_all_and_it_is_kept_for_its_time() {
    let kept = Kept::default();
    let begun = begin(&kept, Want::Known);
    assert!(matches!(kept.find(Want::Fresh), Found::Coming(_, None, PATIENCE_FIRST)));
    assert_eq!(kept.put(Arc::new(catalog(1000, "a"))), Topics::NONE);
    drop(begun);
    assert_eq!(known(&kept, Want::Fresh).unwrap(), "a");
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(known(&kept, Want::Known).unwrap(), "a");
    let begun = begin(&kept, Want::Fresh);
    let changed = kept.put(Arc::new(catalog(1000, "b")));
    assert!(changed.has(Topic::Tools) && !changed.has(Topic::Resources), "nobody has told it");
    drop(begun);
    kept.note_change();
    let begun = begin(&kept, Want::Fresh);
    assert_eq!(kept.put(Arc::new(catalog(1000, "c"))), Topics::NONE, "it was told");
    drop(begun);
    assert_eq!(known(&kept, Want::Fresh).unwrap(), "c");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_twice_for_what_is_slow_and_all_is_told_in_the_end() {
    let kept = Kept::default();
    let _begun = begin(&kept, Want::Fresh);
    kept.note_late();
    assert_eq!(known(&kept, Want::Fresh), None);
    assert_eq!(kept.put(Arc::new(catalog(1000, "a"))), Topics::ALL);
    kept.note_change();
    let _begun = begin(&kept, Want::Fresh);
    kept.note_late();
    // It changed while it was read: what was read is not new.
    kept.note_change();
    assert!(kept.put(Arc::new(catalog(1000, "b"))).has(Topic::Tools));
    drop(begin(&kept, Want::Fresh));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_not_asked_again_at_once() {
    let kept = Kept::default();
    let begun = begin(&kept, Want::Fresh);
    kept.rest();
    drop(begun);
    assert_eq!(known(&kept, Want::Fresh), None);
    tokio::time::advance(RETRY + Duration::from_millis(1)).await;
    drop(begin(&kept, Want::Fresh));
    // Nobody reads any more: it begins anew.
    drop(begin(&kept, Want::Fresh));
    kept.rest();
    kept.note_change();
    drop(begin(&kept, Want::Fresh));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_was_too_slow_until_it_has_answered() {
    let kept = Kept::default();
    for (is_late, patience) in [(true, PATIENCE_FIRST), (true, Duration::ZERO)] {
        let Found::Coming(_, Some(begun), found) = kept.find(Want::Fresh) else { panic!() };
        assert_eq!(found, patience);
        if is_late {
            kept.note_late();
        }
        kept.rest();
        drop(begun);
        tokio::time::advance(RETRY + Duration::from_millis(1)).await;
    }
    let begun = begin(&kept, Want::Fresh);
    kept.put(Arc::new(catalog(1000, "a")));
    drop(begun);
    kept.note_change();
    assert!(matches!(kept.find(Want::Fresh), Found::Coming(_, Some(_), PATIENCE)));
}

#[tokio::test(start_paused = true)]
async fn callers_share_what_is_the_same_and_there_is_room_for_new_ones() {
    let catalogs = PrivateCatalogs::default();
    let one = catalogs.share(catalog(1000, "a"));
    assert!(Arc::ptr_eq(&one, &catalogs.share(catalog(1000, "a"))));
    assert!(!Arc::ptr_eq(&one, &catalogs.share(catalog(1000, "b"))));
    let key = |number: usize| SessionKey::Principal {
        subject: "ann".into(),
        capabilities: number as u64,
    };
    assert!(!catalogs.changed(&key(0)), "nobody was shown anything");
    for number in 0..KEPT_MAX {
        catalogs.of(&key(number));
        if number == KEPT_MAX / 2 {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
    catalogs.of(&key(KEPT_MAX));
    assert!(catalogs.kept.len() <= KEPT_MAX / 2 + 1, "{}", catalogs.kept.len());
    assert!(catalogs.changed(&key(KEPT_MAX)) && !catalogs.changed(&key(0)));
    catalogs.forget(&key(KEPT_MAX));
    tokio::time::advance(Duration::from_mins(1)).await;
    catalogs.sweep(Duration::from_secs(30));
    assert!(catalogs.keys().is_empty());
}
