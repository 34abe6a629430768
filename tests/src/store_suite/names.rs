//! Names, references and credentials.

use anyhow::{Context as _, ensure};
use control_plane::{error::Error, registry::WriteOptions, store::configuration::Configuration};
use proto::{
    Credential, CredentialChange, EntryKind, Invalid,
    resource::{Resource, ToolResource, VirtualServerResource},
    upstream::{Stdio, Transport, Upstream},
    virtual_server::{Naming, VirtualServer, VirtualServerDraft},
};

use super::place::{House, Place, entry, server, tool, upstream};

fn tool_named<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a ToolResource> {
    configuration.resources.iter().find_map(|resource| match resource {
        Resource::Tool(tool) if tool.name == name => Some(tool),
        _ => None,
    })
}

fn server_named<'a>(
    configuration: &'a Configuration,
    name: &str,
) -> Option<&'a VirtualServerResource> {
    configuration.resources.iter().find_map(|resource| match resource {
        Resource::VirtualServer(server) if server.name.as_str() == name => Some(server),
        _ => None,
    })
}

/// A name belongs to one object; a clash is an error at write and a notice at discovery.
pub async fn names_are_unique(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    house.tool("a-b-c").await?;
    assert!(matches!(house.tool("a-b-c").await, Err(Error::AlreadyExists { kind: "tool", .. })));
    let one = house.upstream("a").await?;
    assert!(matches!(
        house.upstream("a").await,
        Err(Error::AlreadyExists { kind: "upstream", .. })
    ));
    let two = house.upstream("a-b").await?;
    house.discover(&one.id, &["b-c", "b-d"]).await?;
    house.discover(&two.id, &["c", "d", "e"]).await?;
    assert_eq!(house.tool_names().await?, ["a-b-c", "a-b-d", "a-b-e"]);
    let two = house.registry.get_upstream(&house.admin, "a-b").await?;
    assert_eq!(two.status.tool_count, 1);
    assert_eq!(two.status.notices.len(), 2);
    assert!(matches!(house.tool("a-b-e").await, Err(Error::AlreadyExists { .. })));
    Ok(())
}

/// ContextForge's name of a tool is an alias, until somebody has it as name.
pub async fn aliases_give_way_to_names(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let first = house.tool("clock_tool").await?;
    let found = house.registry.get_tool(&house.admin, "clock-tool").await?;
    assert_eq!(found.id, first.id);
    let configuration = house.configuration().await?;
    let sent = tool_named(&configuration, "clock_tool").context("not sent")?;
    assert_eq!(sent.aliases, ["clock-tool"]);
    let second = house.tool("clock-tool").await?;
    let found = house.registry.get_tool(&house.admin, "clock-tool").await?;
    assert_eq!(found.id, second.id);
    let changes = house.changes(1).await?.context("log")?;
    assert!(changes.iter().any(|key| key.name == first.id), "who lost the alias is sent again");
    let upstream = house.upstream("fast_time").await?;
    house.discover(&upstream.id, &["get_system_time"]).await?;
    let name = "fast-time-get-system-time";
    let found = house.registry.get_tool(&house.admin, name).await?;
    assert_eq!(found.name.as_str(), "fast_time-get_system_time");
    Ok(())
}

/// References are names or ids, each once; a dangling one is named by its path.
pub async fn references_are_resolved_or_refused(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let tool_id = house.tool("t").await?.id;
    let upstream = house.upstream("u").await?;
    let draft = server("dev", &["u", &upstream.id], &["t", &tool_id])?;
    let options = WriteOptions::default;
    let made = house.registry.create_virtual_server(&house.admin, draft, options()).await?;
    assert_eq!((made.upstreams, made.tools), (vec!["u".to_owned()], vec!["t".to_owned()]));
    assert_eq!(made.tool_ids, std::slice::from_ref(&tool_id));
    let draft = server("bad", &["u", "nobody"], &[])?;
    let error = house.registry.create_virtual_server(&house.admin, draft, options()).await;
    assert!(matches!(error, Err(Error::Invalid(Invalid { field, .. })) if field == "upstreams[1]"));
    let configuration = house.configuration().await?;
    let sent = server_named(&configuration, "dev").context("not sent")?;
    assert_eq!(sent.upstream_ids, [upstream.id]);
    assert_eq!(sent.tool_ids, [tool_id]);
    Ok(())
}

/// What a virtual server names cannot be deleted under it.
pub async fn what_is_used_stays(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let options = WriteOptions::default;
    house.tool("t").await?;
    house.upstream("u").await?;
    let draft = server("dev", &["u"], &["t"])?;
    registry.create_virtual_server(admin, draft, options()).await?;
    for error in [
        registry.delete_tool(admin, "t", None, options()).await,
        registry.delete_upstream(admin, "u", None, options()).await,
    ] {
        assert!(matches!(error, Err(Error::InUse { user, .. }) if user == "server `dev`"));
    }
    registry.delete_virtual_server(admin, "dev", None, options()).await?;
    registry.delete_tool(admin, "t", None, options()).await?;
    registry.delete_upstream(admin, "u", None, options()).await?;
    assert!(house.configuration().await?.resources.is_empty());
    assert!(matches!(house.upstream("u").await, Ok(again) if again.name.as_str() == "u"));
    Ok(())
}

/// Without prefixes two tools of one virtual server may not have the same name.
pub async fn bare_names_may_not_clash(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    for name in ["one", "two"] {
        let upstream = house.upstream(name).await?;
        house.discover(&upstream.id, &["echo"]).await?;
    }
    let mut draft = server("dev", &["one", "two"], &[])?;
    draft.naming = Naming::Bare;
    let options = WriteOptions::default();
    let error = house.registry.create_virtual_server(&house.admin, draft.clone(), options).await;
    assert!(matches!(error, Err(Error::Invalid(Invalid { field, .. })) if field == "naming"));
    draft.upstreams.truncate(1);
    let options = WriteOptions::default();
    house.registry.create_virtual_server(&house.admin, draft, options).await?;
    Ok(())
}

/// A discovered tool leaves a selection with its catalog, and comes back to it.
pub async fn vanished_tools_leave_the_selection(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let upstream = house.upstream("u").await?;
    house.discover(&upstream.id, &["a", "b"]).await?;
    let draft = server("dev", &[], &["u-a", "u-b"])?;
    house.registry.create_virtual_server(&house.admin, draft, WriteOptions::default()).await?;
    let selected = async |house: &House| {
        let server = house.registry.get_virtual_server(&house.admin, "dev").await?;
        let configuration = house.configuration().await?;
        let sent = server_named(&configuration, "dev").context("not sent")?;
        assert_eq!(sent.tool_ids, server.tool_ids);
        anyhow::Ok(server.tools)
    };
    assert_eq!(selected(&house).await?, ["u-a", "u-b"]);
    house.registry.refresh_upstream(&house.admin, "u").await?;
    house.discover(&upstream.id, &["b"]).await?;
    assert_eq!(selected(&house).await?, ["u-b"]);
    house.registry.refresh_upstream(&house.admin, "u").await?;
    house.discover(&upstream.id, &["b", "a"]).await?;
    assert_eq!(selected(&house).await?, ["u-a", "u-b"]);
    house.registry.delete_upstream(&house.admin, "u", None, WriteOptions::default()).await?;
    assert!(selected(&house).await?.is_empty());
    Ok(())
}

/// Single prompts and resources are found by what people call them, and stay chosen while their
/// upstream does not offer them.
pub async fn single_entries_are_chosen(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let all = [entry(EntryKind::Prompt, "ask"), entry(EntryKind::Resource, "a://1")];
    let all = [&all[..], &[entry(EntryKind::ResourceTemplate, "a://{id}")]].concat();
    let one = house.upstream("one").await?;
    house.offer(&one.id, all.clone()).await?;
    house.offer(&house.upstream("two").await?.id, all.iter().take(2).cloned().collect()).await?;
    let mut draft = server("dev", &[], &[])?;
    draft.prompts = vec!["one-ask".to_owned(), "two/ask".to_owned()];
    draft.resources = vec!["a://1".to_owned()];
    let options = WriteOptions::default;
    let unclear = registry.create_virtual_server(admin, draft.clone(), options()).await;
    let Err(Error::Invalid(unclear)) = unclear else { anyhow::bail!("{unclear:?}") };
    assert_eq!(unclear.field, "resources[0]");
    assert_eq!(unclear.problem, "`a://1` may be one/a://1 or two/a://1: say which");
    draft.resources = vec!["a://{id}".to_owned(), "two/a://1".to_owned(), "two/a://1".to_owned()];
    let made = registry.create_virtual_server(admin, draft.clone(), options()).await?;
    assert_eq!(made.prompts, ["one-ask", "two-ask"]);
    assert_eq!(made.resources, ["one/a://{id}", "two/a://1"]);
    assert_eq!(registry.get_virtual_server(admin, "dev").await?, made);
    let configuration = house.configuration().await?;
    let sent = server_named(&configuration, "dev").context("not sent")?;
    let originals: Vec<_> = sent.entries.iter().map(|it| it.original.as_str()).collect();
    assert_eq!(originals, ["ask", "ask", "a://{id}", "a://1"]);

    house.offer(&one.id, Vec::new()).await?;
    let rename = |current: VirtualServer| {
        let wire = proto::wire::VirtualServer::from(current);
        VirtualServerDraft::try_from(proto::wire::VirtualServer { title: "Dev".into(), ..wire })
    };
    let renamed = registry.update_virtual_server(admin, "dev", None, rename, options()).await?;
    assert_eq!((renamed.title.as_str(), renamed.resources), ("Dev", made.resources));
    draft.resources = vec!["one/a://2".to_owned()];
    let replace = |_: VirtualServer| Ok(draft.clone());
    let missing = registry.update_virtual_server(admin, "dev", None, replace, options()).await;
    let Err(Error::Invalid(missing)) = missing else { anyhow::bail!("{missing:?}") };
    assert_eq!(missing.problem, "names no resource: there is no `one/a://2`");

    let known = house.revision().await?;
    registry.delete_upstream(admin, "two", None, options()).await?;
    let left = registry.get_virtual_server(admin, "dev").await?;
    assert_eq!((left.prompts.len(), left.resources), (1, vec!["one/a://{id}".to_owned()]));
    let changes = house.changes(known).await?.context("log")?;
    assert!(changes.iter().any(|key| key.kind == "server"), "{changes:?}");
    Ok(())
}

/// Credentials are sealed at rest, never read back, and given to proxies as headers.
pub async fn credentials_are_sealed(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let (registry, admin) = (&house.registry, &house.admin);
    let mut draft = upstream("u")?;
    draft.credential = CredentialChange::Set(Credential::Bearer("s3cret-value".into()));
    let made = registry.create_upstream(admin, draft, WriteOptions::default()).await?;
    let summary = made.credential.clone().context("no summary")?;
    assert_eq!((summary.kind.as_str(), summary.fingerprint.len()), ("bearer", 8));
    assert!(!format!("{made:?}").contains("s3cret"));
    let headers = async || {
        let configuration = house.configuration().await?;
        anyhow::Ok(configuration.resources.into_iter().find_map(|resource| match resource {
            Resource::Credential(credential) => Some(credential.headers),
            _ => None,
        }))
    };
    let sent = headers().await?.context("no credential")?;
    assert_eq!(sent.get("authorization"), Some(&"Bearer s3cret-value".into()));
    for file in std::fs::read_dir(place.folder())? {
        let bytes = std::fs::read(file?.path())?;
        ensure!(!bytes.windows(12).any(|window| window == b"s3cret-value"), "it is in a file");
    }
    let with = |change: CredentialChange| {
        move |current: Upstream| {
            let mut draft = upstream(current.name.as_str())?;
            draft.credential = change;
            Ok(draft)
        }
    };
    let same = with(CredentialChange::Set(Credential::Bearer("s3cret-value".into())));
    let kept = registry.update_upstream(admin, "u", None, same, WriteOptions::default()).await?;
    assert_eq!(kept.resource_version, made.resource_version, "the same secret changes nothing");
    let removed = with(CredentialChange::Remove);
    let removed =
        registry.update_upstream(admin, "u", None, removed, WriteOptions::default()).await?;
    assert_eq!(removed.credential, None);
    assert_eq!(headers().await?, None);
    Ok(())
}

/// A command gets its credential as environment variables, so it must be named ones.
pub async fn commands_take_named_secrets_only(place: &Place) -> anyhow::Result<()> {
    let house = place.open().await?;
    let mut draft = upstream("time")?;
    draft.transport = Transport::Stdio(Stdio {
        command: "uvx".to_owned(),
        args: vec!["mcp-server-time".to_owned()],
        env: [].into(),
        working_directory: String::new(),
        mode: proto::upstream::StdioMode::Shared,
    });
    draft.credential = CredentialChange::Set(Credential::Bearer("x".into()));
    let options = WriteOptions::default;
    let error = house.registry.create_upstream(&house.admin, draft.clone(), options()).await;
    assert!(matches!(error, Err(Error::Invalid(Invalid { field, .. })) if field == "credential"));
    draft.credential =
        CredentialChange::Set(Credential::Headers([("KEY".to_owned(), "x".into())].into()));
    house.registry.create_upstream(&house.admin, draft, options()).await?;
    let wanted = house.registry.wanted_discoveries().await?;
    assert!(wanted.iter().all(|it| it.is_stdio));
    let discovered = tool("t")?;
    house.registry.create_tool(&house.admin, discovered, options()).await?;
    Ok(())
}
