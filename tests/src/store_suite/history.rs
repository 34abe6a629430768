//! Revisions, the change log, the epoch, and the schema.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail};
use control_plane::{
    changes::Changes,
    registry::WriteOptions,
    store::{StoreError, configuration},
};
use proto::{
    Credential, CredentialChange,
    resource::{Resource, kind},
};
use tokio_util::sync::CancellationToken;

use super::place::{House, Place, catalog, server, upstream};

/// Writers at once each get the next revision, none twice, none left out.
pub async fn revisions_have_order_and_no_gaps(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let other = place.open().await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let registry = if writer % 2 == 0 { &house.registry } else { &other.registry };
        let (registry, admin) = (registry.clone(), house.admin.clone());
        writers.spawn(async move {
            let mut seen = Vec::new();
            for number in 0..8 {
                let draft = super::place::tool(&format!("t{writer}-{number}"))?;
                let tool = registry.create_tool(&admin, draft, WriteOptions::default()).await?;
                seen.push(tool.resource_version);
            }
            anyhow::Ok(seen)
        });
    }
    let mut seen = Vec::new();
    while let Some(revisions) = writers.join_next().await {
        let revisions = revisions??;
        assert!(revisions.is_sorted(), "{revisions:?}");
        seen.extend(revisions);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=48).collect::<Vec<u64>>());
    assert_eq!(house.revision().await?, 48);
    let changes = house.changes(40).await?.context("the log reaches back")?;
    assert_eq!(changes.len(), 8);
    assert!(changes.is_sorted_by_key(|key| key.revision));
    Ok(())
}

/// The log names each changed resource once, and what became of it can be read.
pub async fn the_change_log_names_what_changed(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let mut draft = upstream("u")?;
    draft.credential = CredentialChange::Set(Credential::Bearer("s3cret".into()));
    let created =
        house.registry.create_upstream(&house.admin, draft, WriteOptions::default()).await?;
    let kinds = |keys: &[control_plane::store::changes::ChangedKey]| -> Vec<String> {
        let mut kinds: Vec<_> = keys.iter().map(|key| key.kind.clone()).collect();
        kinds.sort();
        kinds
    };
    let first = house.changes(0).await?.context("log")?;
    assert_eq!(kinds(&first), [kind::CREDENTIAL, kind::UPSTREAM]);
    house.discover(&created.id, &["x"]).await?;
    let second = house.changes(1).await?.context("log")?;
    assert_eq!(kinds(&second), [kind::TOOL, kind::UPSTREAM]);
    assert!(second.iter().any(|key| key.kind == kind::TOOL && key.owner == created.id));
    house.registry.delete_upstream(&house.admin, "u", None, WriteOptions::default()).await?;
    let all = house.changes(0).await?.context("log")?;
    let mut read = house.store.begin_read().await?;
    let loaded = configuration::load(&mut read, &house.sealer, &all).await?;
    assert_eq!(loaded.len(), 3);
    assert!(loaded.iter().all(|(_, resource)| resource.is_none()));
    assert_eq!(house.changes(99).await?, None, "a future revision is of another history");
    assert_eq!(house.changes(3).await?, Some(Vec::new()));
    Ok(())
}

/// Following the change log leads to the same configuration as reading it whole.
pub async fn following_the_log_equals_reading_all(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let mut followed = Followed::default();
    let options = WriteOptions::default;
    let admin = &house.admin;
    let one = house.upstream("one").await?;
    followed.follow(&house).await?;
    house.discover(&one.id, &["a", "b", "c"]).await?;
    house.tool("clock_tool").await?;
    followed.follow(&house).await?;
    let draft = server("dev", &["one"], &["clock_tool", "one-a"])?;
    house.registry.create_virtual_server(admin, draft, options()).await?;
    house.registry.refresh_upstream(admin, "one").await?;
    followed.follow(&house).await?;
    house.discover(&one.id, &["b", "d"]).await?;
    followed.follow(&house).await?;
    let off = |tool: proto::tool::Tool| {
        let mut draft = super::place::tool(tool.name.as_str())?;
        draft.disabled = true;
        Ok(draft)
    };
    house.registry.update_tool(admin, "clock_tool", None, off, options()).await?;
    followed.follow(&house).await?;
    house.registry.delete_virtual_server(admin, "dev", None, options()).await?;
    house.registry.delete_upstream(admin, "one", None, options()).await?;
    followed.follow(&house).await
}

#[derive(Default)]
struct Followed {
    revision: u64,
    resources: HashMap<(String, String, String), Resource>,
}

impl Followed {
    async fn follow(&mut self, house: &House) -> anyhow::Result<()> {
        let keys = house.changes(self.revision).await?.context("log")?;
        let mut read = house.store.begin_read().await?;
        self.revision = read.revision().await?;
        for (key, resource) in configuration::load(&mut read, &house.sealer, &keys).await? {
            let place = (key.kind, key.owner, key.name);
            match resource {
                Some(resource) => self.resources.insert(place, resource),
                None => self.resources.remove(&place),
            };
        }
        drop(read);
        let whole = house.configuration().await?;
        assert_eq!(whole.revision, self.revision);
        assert_eq!(whole.resources.len(), self.resources.len());
        for resource in whole.resources {
            assert!(self.resources.values().any(|it| *it == resource), "{resource:?}");
        }
        Ok(())
    }
}

/// A change of one control plane is seen by another one.
pub async fn changes_of_others_are_seen(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let other = place.open().await?;
    let changes = Changes::new(other.store.clone());
    let mut head = changes.subscribe();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(changes.run(stop.clone()));
    for expected in 1..=3 {
        house.tool(&format!("t{expected}")).await?;
        let seen = head.wait_for(|revision| *revision >= expected);
        tokio::time::timeout(Duration::from_secs(20), seen).await.context("not seen")??;
    }
    other.tool("own").await?;
    assert_eq!(*head.borrow_and_update(), 4, "changes of this process are seen at once");
    stop.cancel();
    watching.await?;
    Ok(())
}

/// The epoch is made once; control planes that start together agree on it.
pub async fn the_epoch_belongs_to_the_database(place: &Place) -> anyhow::Result<()> {
    let epoch = place.open().await?.store.epoch().to_owned();
    assert_eq!(place.open().await?.store.epoch(), epoch);
    assert_eq!(epoch.len(), 32);
    Ok(())
}

/// A database of a newer version is refused with one line that says what to do.
pub async fn a_newer_schema_is_refused(place: &Place) -> anyhow::Result<()> {
    place.open().await?.store.close().await;
    place
        .tamper(
            "INSERT INTO _sqlx_migrations
                 (version, description, installed_on, success, checksum, execution_time)
             SELECT 9999, description, installed_on, success, checksum, execution_time
             FROM _sqlx_migrations WHERE version = 1",
        )
        .await?;
    match place.open().await {
        Err(error @ StoreError::NewerSchema { found: 9999, .. }) => {
            assert_eq!(error.to_string().lines().count(), 1);
            Ok(())
        }
        Err(other) => bail!("refused for another reason: {other}"),
        Ok(_) => bail!("a newer database was opened"),
    }
}

/// A value that we would not have written is named by table, column and row.
pub async fn a_corrupt_row_is_named(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let created = house.upstream("u").await?;
    for (column, value) in
        [("transport", "{\"kind\":"), ("catalog_scope", "nobody"), ("name", "a b")]
    {
        place.tamper("UPDATE upstreams SET name = 'u', catalog_scope = 'shared'").await?;
        let healthy = r#"{"kind":"http","url":"http://h/"}"#;
        place.tamper(&format!("UPDATE upstreams SET transport = '{healthy}'")).await?;
        assert!(house.configuration().await.is_ok());
        place.tamper(&format!("UPDATE upstreams SET {column} = '{value}'")).await?;
        let error = house.configuration().await.err().context("it was read")?.to_string();
        for fact in ["table `upstreams`", &created.id, &format!("column `{column}`")] {
            assert!(error.contains(fact), "{error}");
        }
        let answer = house.registry.get_upstream(&house.admin, &created.id).await;
        assert!(answer.is_err_and(|error| error.to_string() == "internal error"));
    }
    Ok(())
}

/// What was committed is there after the process has ended without closing anything.
pub async fn commits_survive_a_crash(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let upstream = house.upstream("u").await?;
    let open_write = house.store.begin_write().await?;
    let wanted = house.registry.wanted_discoveries().await?;
    assert_eq!(wanted.len(), 1);
    std::mem::forget(house.store.clone());
    drop(open_write);
    drop(house);
    let again = place.open().await?;
    again.registry.record_catalog(&upstream.id, 1, Ok(catalog(&["x"]))).await?;
    assert_eq!(again.tool_names().await?, ["u-x"]);
    Ok(())
}
