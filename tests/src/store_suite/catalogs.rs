//! Discovery: wishes, results, and what they leave.

use anyhow::Context as _;
use control_plane::{
    error::Error,
    registry::{Page, WriteOptions},
};
use proto::{
    EntryKind, Era,
    upstream::{FailureReason, Phase, Upstream},
};

use super::place::{Place, catalog, entry, tool, upstream};

/// Names and ids of discovered tools stay over restarts and additions.
pub async fn catalogs_keep_names_across_restarts(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let made = house.upstream("git.hub").await?;
    house.discover(&made.id, &["list/issues", "x"]).await?;
    let first = house.registry.get_tool(&house.admin, "git_hub-list_issues-a00974de").await?;
    house.store.close().await;
    let house = place.open().await?;
    house.registry.refresh_upstream(&house.admin, "git.hub").await?;
    house.discover(&made.id, &["new", "x", "list/issues"]).await?;
    let again = house.registry.get_tool(&house.admin, "git_hub-list_issues-a00974de").await?;
    assert_eq!(first, again);
    assert_eq!(house.tool_names().await?.len(), 3);
    Ok(())
}

/// The revision moves only when a proxy must be told something.
pub async fn an_equal_catalog_takes_no_revision(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let made = house.upstream("u").await?;
    assert_eq!(made.status.phase, Phase::Pending);
    house.discover(&made.id, &["a"]).await?;
    assert_eq!(house.revision().await?, 2);
    let ready = registry.get_upstream(admin, "u").await?;
    assert_eq!((ready.status.phase, ready.status.discovery_generation), (Phase::Ready, 1));
    assert_eq!(
        ready.resource_version, made.resource_version,
        "a catalog is no change of the object"
    );
    assert_eq!(ready.status.era, Some(Era::Legacy));
    registry.refresh_upstream(admin, "u").await?;
    house.clock.advance_ms(5);
    house.discover(&made.id, &["a"]).await?;
    assert_eq!(house.revision().await?, 2);
    let again = registry.get_upstream(admin, "u").await?;
    assert_eq!(again.status.discovery_generation, 2);
    assert!(again.status.discovered_time_ms > ready.status.discovered_time_ms);
    registry.want_discovery(&made.id).await?;
    let mut modern = catalog(&["a"]);
    modern.era = Era::Modern;
    registry.record_catalog(&made.id, 3, Ok(modern)).await?;
    let keys = house.changes(2).await?.context("log")?;
    assert_eq!(keys.len(), 1, "an upstream of another era is sent again: {keys:?}");
    Ok(())
}

/// A failed look keeps the old catalog and says why.
pub async fn a_failure_keeps_the_catalog(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let made = house.upstream("u").await?;
    house.discover(&made.id, &["a"]).await?;
    house.registry.refresh_upstream(&house.admin, "u").await?;
    let failure = (FailureReason::Connect, "connection refused".to_owned());
    house.registry.record_catalog(&made.id, 2, Err(failure)).await?;
    let failed = house.registry.get_upstream(&house.admin, "u").await?.status;
    assert_eq!((failed.phase, failed.reason), (Phase::Failed, Some(FailureReason::Connect)));
    assert_eq!(failed.message, "connection refused");
    assert_eq!((failed.tool_count, failed.discovery_generation), (1, 2));
    assert_eq!(house.revision().await?, 2);
    let counts = house.registry.counts(&house.admin).await?;
    assert_eq!((counts.upstreams, counts.ready_upstreams, counts.tools), (1, 0, 1));
    Ok(())
}

/// One that speaks none of our versions has no era until it can be read again, whatever else fails
/// meanwhile; proxies are told so once.
pub async fn a_server_of_other_versions_keeps_its_catalog_but_not_its_era(
    place: &Place,
) -> anyhow::Result<()> {
    let house = place.open().await?;
    let made = house.upstream("u").await?;
    house.discover(&made.id, &["a"]).await?;
    let before = house.revision().await?;
    let reasons =
        [FailureReason::Incompatible, FailureReason::Connect, FailureReason::Incompatible];
    for (wanted, reason) in (2..).zip(reasons) {
        house.registry.refresh_upstream(&house.admin, "u").await?;
        let failure = Err((reason, "only 2030-01-01".to_owned()));
        house.registry.record_catalog(&made.id, wanted, failure).await?;
        let status = house.registry.get_upstream(&house.admin, "u").await?.status;
        assert_eq!((status.reason, status.era, status.tool_count), (Some(reason), None, 1));
        assert_eq!(status.protocol_version, "");
        assert_eq!(house.revision().await?, before + 1);
    }
    house.registry.refresh_upstream(&house.admin, "u").await?;
    house.registry.record_catalog(&made.id, 5, Ok(catalog(&["a"]))).await?;
    let status = house.registry.get_upstream(&house.admin, "u").await?.status;
    assert_eq!((status.phase, status.era.is_some()), (Phase::Ready, true));
    assert_eq!(house.revision().await?, before + 2);
    Ok(())
}

/// Wishes are numbered; results that are late, doubled or of an older definition do not count.
pub async fn outdated_results_do_not_count(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let made = house.upstream("u").await?;
    let moved = |current: Upstream| {
        let mut draft = upstream(current.name.as_str())?;
        let url = proto::upstream::parse_url("url", "http://127.0.0.1:9/mcp")?;
        draft.transport = proto::upstream::Transport::Http { url };
        Ok(draft)
    };
    let moved = registry.update_upstream(admin, "u", None, moved, WriteOptions::default()).await?;
    registry.record_catalog(&made.id, 1, Ok(catalog(&["old"]))).await?;
    assert!(house.tool_names().await?.is_empty());
    let wanted = registry.wanted_discoveries().await?;
    let wish = wanted.first().context("no wish")?;
    assert_eq!((wish.wanted, wish.revision), (2, moved.resource_version));
    registry.record_catalog(&made.id, 7, Ok(catalog(&["future"]))).await?;
    registry.record_catalog(&made.id, 2, Ok(catalog(&["new"]))).await?;
    registry.record_catalog(&made.id, 2, Ok(catalog(&["twice"]))).await?;
    assert_eq!(house.tool_names().await?, ["u-new"]);
    assert!(registry.wanted_discoveries().await?.is_empty());
    registry.record_catalog("nobody", 1, Ok(catalog(&["x"]))).await?;
    Ok(())
}

/// A disabled upstream is not looked at; enabling it is a wish.
pub async fn a_disabled_upstream_is_left_alone(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let mut draft = upstream("u")?;
    draft.disabled = true;
    let made = registry.create_upstream(admin, draft, WriteOptions::default()).await?;
    assert_eq!(made.status.phase, Phase::Disabled);
    assert!(registry.wanted_discoveries().await?.is_empty());
    assert!(matches!(registry.refresh_upstream(admin, "u").await, Err(Error::Invalid(_))));
    let on = |current: Upstream| upstream(current.name.as_str());
    let on = registry.update_upstream(admin, "u", None, on, WriteOptions::default()).await?;
    assert_eq!(on.status.phase, Phase::Pending);
    assert_eq!(registry.wanted_discoveries().await?.len(), 1);
    Ok(())
}

/// A discovered tool belongs to its upstream: here it can be neither changed nor deleted.
pub async fn discovered_tools_belong_to_their_upstream(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let made = house.upstream("u").await?;
    house.discover(&made.id, &["a"]).await?;
    let options = WriteOptions::default;
    let change = |_| tool("u-a");
    for error in [
        registry.update_tool(admin, "u-a", None, change, options()).await.err(),
        registry.delete_tool(admin, "u-a", None, options()).await.err(),
    ] {
        let error = error.context("it was done")?.to_string();
        assert!(error.contains("is a tool of upstream `u`"), "{error}");
    }
    Ok(())
}

/// Prompts, resources and templates come, change, go and come back; prompts keep their names.
pub async fn entries_follow_the_catalog(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let made = house.upstream("u").await?;
    let all = [entry(EntryKind::Prompt, "ask/me"), entry(EntryKind::Resource, "a://1")];
    let all = [&all[..], &[entry(EntryKind::ResourceTemplate, "a://{id}")]].concat();
    house.offer(&made.id, all.clone()).await?;
    let prompts = registry.list_prompts(admin, None, Page::default()).await?.items;
    let named = prompts.first().and_then(|it| it.name.as_ref()).context("no name")?.to_string();
    assert!(named.starts_with("u-ask_me-") && named.len() == 17, "{named}");
    let resources = registry.list_resources(admin, Some("u"), Page::default()).await?.items;
    assert_eq!(resources.len(), 2);
    let status = registry.get_upstream(admin, "u").await?.status;
    assert_eq!(
        (status.prompt_count, status.resource_count, status.resource_template_count),
        (1, 1, 1)
    );
    let known = house.revision().await?;
    house.offer(&made.id, all.clone()).await?;
    assert_eq!(house.revision().await?, known, "nothing changed");

    let mut other = entry(EntryKind::Resource, "a://1");
    r#"{"uri":"a://1","name":"new","x":1.0}"#.clone_into(&mut other.definition);
    house.offer(&made.id, vec![other]).await?;
    let changes = house.changes(known).await?.context("log")?;
    let kinds: Vec<&str> = changes.iter().map(|key| key.kind.as_str()).collect();
    assert_eq!(kinds, ["prompt", "resource", "resource-template"]);
    assert!(registry.list_prompts(admin, None, Page::default()).await?.items.is_empty());
    let told = house.configuration().await?.resources;
    let told: Vec<_> =
        told.iter().filter(|it| matches!(it, proto::resource::Resource::Entry(_))).collect();
    assert_eq!(told.len(), 1, "{told:?}");

    house.offer(&made.id, all).await?;
    let back = registry.list_prompts(admin, None, Page::default()).await?.items;
    assert_eq!(back.first().map(|it| &it.id), prompts.first().map(|it| &it.id));
    registry.delete_upstream(admin, "u", None, WriteOptions::default()).await?;
    assert!(registry.list_resources(admin, None, Page::default()).await?.items.is_empty());
    Ok(())
}

/// Pages of prompts and resources follow each other, of one upstream or of all.
pub async fn entries_come_in_pages(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    for name in ["one", "two"] {
        let made = house.upstream(name).await?;
        let uris = (0..3).map(|number| entry(EntryKind::Resource, &format!("{name}://{number}")));
        house.offer(&made.id, uris.collect()).await?;
    }
    let mut page = Page { size: 2, token: String::new() };
    let mut seen = Vec::new();
    loop {
        let listed = registry.list_resources(admin, Some("two"), page.clone()).await?;
        seen.extend(listed.items.into_iter().map(|it| it.offered.original));
        if listed.next_page_token.is_empty() {
            break;
        }
        page.token = listed.next_page_token;
    }
    assert_eq!(seen, ["two://0", "two://1", "two://2"]);
    let all = registry.list_resources(admin, None, Page::default()).await?;
    assert_eq!(all.items.len(), 6);
    let unknown = registry.list_prompts(admin, Some("nobody"), Page::default()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    Ok(())
}

/// A large catalog is stored and read in bounded time.
pub async fn a_large_catalog_is_stored(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let made = house.upstream("big").await?;
    let names: Vec<String> = (0..1000).map(|number| format!("tool_{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    house.discover(&made.id, &names).await?;
    let keys = house.changes(1).await?.context("log")?;
    assert_eq!(keys.len(), 1001);
    let mut read = house.store.begin_read().await?;
    let loaded = control_plane::store::configuration::load(&mut read, &house.sealer, &keys).await?;
    assert!(loaded.iter().all(|(_, resource)| resource.is_some()));
    Ok(())
}
