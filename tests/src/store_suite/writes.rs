//! Writes: optimistic, repeatable, all or nothing.

use std::time::Duration;

use anyhow::Context as _;
use control_plane::{
    caller::Caller,
    error::Error,
    registry::{Action, Draft, Page, WriteOptions},
};
use proto::{Credential, CredentialChange, Invalid, Principal, Role, tool::Tool, tool::ToolDraft};

use super::place::{Place, server, tool, upstream};

fn described(text: &str) -> impl FnOnce(Tool) -> Result<ToolDraft, Invalid> + Send + use<'_> {
    move |current| {
        let mut draft = tool(current.name.as_str())?;
        text.clone_into(&mut draft.description);
        Ok(draft)
    }
}

fn request(id: &str) -> WriteOptions {
    WriteOptions { request_id: Some(id.to_owned()), validate_only: false }
}

/// Of writers that saw the same version exactly one succeeds; the others hear of it.
pub async fn of_parallel_writers_one_wins(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let seen = house.tool("t").await?.resource_version;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (registry, admin) = (house.registry.clone(), house.admin.clone());
        writers.spawn(async move {
            let text = format!("by {writer}");
            let options = WriteOptions::default();
            registry.update_tool(&admin, "t", Some(seen), described(&text), options).await
        });
    }
    let (mut won, mut lost) = (0, 0);
    while let Some(outcome) = writers.join_next().await {
        match outcome? {
            Ok(_) => won += 1,
            Err(Error::Conflict { current, .. }) => {
                assert_eq!(current, seen + 1);
                lost += 1;
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert_eq!((won, lost), (1, 7));
    let stale = house.registry.delete_tool(&house.admin, "t", Some(seen), WriteOptions::default());
    assert!(matches!(stale.await, Err(Error::Conflict { .. })));
    assert_eq!(house.revision().await?, seen + 1);
    Ok(())
}

/// An update that changes nothing takes no revision.
pub async fn an_update_without_change_is_none(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let before = house.tool("t").await?;
    let same = |current: Tool| tool(current.name.as_str());
    let options = WriteOptions::default();
    let after = house.registry.update_tool(&house.admin, "t", None, same, options).await?;
    assert_eq!(before, after);
    assert_eq!(house.revision().await?, 1);
    let renamed = |_| tool("other");
    let options = WriteOptions::default();
    let error = house.registry.update_tool(&house.admin, "t", None, renamed, options).await;
    assert!(matches!(error, Err(Error::Invalid(Invalid { field, .. })) if field == "name"));
    Ok(())
}

/// A repeated write answers as the first one and changes nothing, for a day.
pub async fn repeated_requests_change_nothing(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let first = registry.create_tool(admin, tool("t")?, request("r1")).await?;
    let again = registry.create_tool(admin, tool("t")?, request("r1")).await?;
    assert_eq!(first, again);
    let differs = registry.create_tool(admin, tool("u")?, request("r1")).await;
    assert!(
        matches!(&differs, Err(Error::Invalid(Invalid { field, .. })) if field == "request_id"),
        "{differs:?}"
    );
    let somebody = Caller::local_admin("bob");
    let other = registry.create_tool(&somebody, tool("t")?, request("r1")).await;
    assert!(matches!(other, Err(Error::AlreadyExists { .. })), "ids belong to their caller");
    let drafts = || anyhow::Ok(vec![Draft::Tool(tool("a")?), Draft::Upstream(upstream("b")?)]);
    let applied = registry.apply(admin, drafts()?, request("r2")).await?;
    assert_eq!(registry.apply(admin, drafts()?, request("r2")).await?, applied);
    let deleted = registry.delete_tool(admin, "t", None, request("r3")).await?;
    assert_eq!(registry.delete_tool(admin, "t", None, request("r3")).await?, deleted);
    assert_eq!(house.revision().await?, 3);
    house.clock.advance_ms(25 * 60 * 60 * 1000);
    let later = registry.create_tool(admin, tool("t")?, request("r1")).await?;
    assert_ne!(later.id, first.id, "after a day the id is forgotten");
    Ok(())
}

/// Same writes at the same moment under one id make one object.
pub async fn simultaneous_repetitions_make_one_object(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (registry, admin) = (house.registry.clone(), house.admin.clone());
        let draft = tool("t")?;
        writers.spawn(async move { registry.create_tool(&admin, draft, request("same")).await });
    }
    let mut ids = Vec::new();
    while let Some(tool) = writers.join_next().await {
        ids.push(tool??.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(house.revision().await?, 1);
    Ok(())
}

/// Checks, refusals and writes that nobody waits for leave nothing.
pub async fn what_is_not_committed_leaves_nothing(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let check = WriteOptions { request_id: Some("r".to_owned()), validate_only: true };
    let checked = registry.create_tool(admin, tool("t")?, check).await?;
    assert_eq!(checked.resource_version, 1);
    let mut bad = tool("t")?;
    r#"{"type":"object","properties":{"x":{"type":7}}}"#.clone_into(&mut bad.input_schema);
    let error = registry.create_tool(admin, bad, WriteOptions::default()).await;
    assert!(matches!(error, Err(Error::Invalid(Invalid { field, .. })) if field == "input_schema"));
    for delay in 0..20 {
        let create =
            registry.create_tool(admin, tool(&format!("t{delay}"))?, WriteOptions::default());
        let wait = Duration::from_micros(delay * 150);
        // Dropped somewhere in the middle, as when a client disconnects.
        drop(tokio::time::timeout(wait, create).await);
    }
    // Whose commit was under way has ended when the next write has its turn.
    drop(house.store.begin_write().await?);
    let configuration = house.configuration().await?;
    assert_eq!(configuration.revision, configuration.resources.len() as u64);
    let expected = configuration.revision + 1;
    assert_eq!(
        registry.create_tool(admin, tool("t")?, request("r")).await?.resource_version,
        expected
    );
    Ok(())
}

/// Objects of one file may refer to each other in any order; one bad object changes nothing.
pub async fn an_apply_is_all_or_nothing(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let options = WriteOptions::default;
    let file = || -> anyhow::Result<Vec<Draft>> {
        let mut draft = upstream("u")?;
        draft.credential = CredentialChange::Set(Credential::Bearer("one".into()));
        Ok(vec![
            Draft::VirtualServer(server("dev", &["u"], &["clock_tool"])?),
            Draft::Tool(tool("clock_tool")?),
            Draft::Upstream(draft),
        ])
    };
    let mut bad = file()?;
    bad.push(Draft::VirtualServer(server("prod", &["u"], &["clock_tool", "nobody"])?));
    let error = registry.apply(admin, bad, options()).await.err().context("it was applied")?;
    let expected = "`objects[3] (server `prod`): tools[1]` names no tool: there is no `nobody`";
    assert_eq!(error.to_string(), expected);
    assert_eq!(house.revision().await?, 0);
    assert!(house.configuration().await?.resources.is_empty());
    let check = WriteOptions { request_id: None, validate_only: true };
    registry.apply(admin, file()?, check).await?;
    assert_eq!(house.revision().await?, 0);
    let actions = |applied: control_plane::registry::Applied| -> Vec<Action> {
        applied.objects.into_iter().map(|object| object.action).collect()
    };
    let applied = registry.apply(admin, file()?, options()).await?;
    assert_eq!((applied.revision, actions(applied)), (1, vec![Action::Created; 3]));
    let applied = registry.apply(admin, file()?, options()).await?;
    assert_eq!((applied.revision, actions(applied)), (1, vec![Action::Unchanged; 3]));
    let mut changed = file()?;
    if let Some(Draft::Upstream(draft)) = changed.last_mut() {
        draft.credential = CredentialChange::Set(Credential::Bearer("two".into()));
    }
    let applied = registry.apply(admin, changed, options()).await?;
    assert_eq!(applied.revision, 2);
    assert_eq!(actions(applied), [Action::Unchanged, Action::Unchanged, Action::Updated]);
    let twice = vec![Draft::Tool(tool("x")?), Draft::Tool(tool("x")?)];
    let error = registry.apply(admin, twice, options()).await.err().context("applied")?;
    assert!(error.to_string().starts_with("`objects[1] (tool `x`): name`"), "{error}");
    Ok(())
}

/// Who may only call can neither read nor write the registry.
pub async fn a_caller_may_not_register(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let registry = &house.registry;
    let caller = Caller::new(Principal::new("eve", Role::Caller), "token");
    let options = WriteOptions::default;
    let outcomes = [
        registry.create_tool(&caller, tool("t")?, options()).await.err(),
        registry.create_upstream(&caller, upstream("u")?, options()).await.err(),
        registry.create_virtual_server(&caller, server("s", &[], &[])?, options()).await.err(),
        registry.apply(&caller, Vec::new(), options()).await.err(),
        registry.delete_tool(&caller, "t", None, options()).await.err(),
        registry.refresh_upstream(&caller, "u").await.err(),
        registry.list_tools(&caller, None, Page::default()).await.err(),
        registry.get_upstream(&caller, "u").await.err(),
        registry.counts(&caller).await.err(),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Some(Error::Forbidden { .. })), "{outcome:?}");
    }
    Ok(())
}

/// Lists come in pages, oldest first, and end.
pub async fn lists_come_in_pages(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    for number in 0..7 {
        house.tool(&format!("t{number}")).await?;
    }
    let mut page = Page { size: 3, token: String::new() };
    let mut seen = Vec::new();
    loop {
        let listed = house.registry.list_tools(&house.admin, None, page.clone()).await?;
        assert!(listed.items.len() <= 3);
        assert_eq!(listed.revision, 7);
        seen.extend(listed.items.into_iter().map(|tool| tool.name.to_string()));
        if listed.next_page_token.is_empty() {
            break;
        }
        page.token = listed.next_page_token;
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
    Ok(())
}
