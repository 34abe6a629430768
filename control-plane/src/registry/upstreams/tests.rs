//! Who may say what runs on proxies.

use std::sync::Arc;

use proto::{
    Principal, Role, Secret,
    upstream::{CatalogScope, Stdio, StdioMode},
};

use super::*;
use crate::{
    clock::ManualClock,
    seal::Sealer,
    store::{Store, StoreConfig},
};

fn draft(transport: Transport) -> UpstreamDraft {
    UpstreamDraft {
        name: "a".parse().unwrap(),
        title: String::new(),
        description: String::new(),
        transport,
        credential: CredentialChange::Keep,
        catalog_scope: CatalogScope::Shared,
        disabled: false,
        tags: Vec::new(),
    }
}

fn command() -> UpstreamDraft {
    draft(Transport::Stdio(Stdio {
        command: "id".to_owned(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        working_directory: String::new(),
        mode: StdioMode::Shared,
    }))
}

/// The permission that was missing.
fn missing<T>(refused: Result<T, Error>) -> Permission {
    match refused {
        Err(Error::Forbidden { permission, .. }) => permission,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was done"),
    }
}

/// No role may write and not define commands, so the question is asked of who may neither.
#[tokio::test]
async fn a_command_is_defined_only_by_who_may_define_commands() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { database_url: None, data_dir: dir.path().to_owned() };
    let store = Store::open(&config).await.unwrap();
    let clock = Arc::new(ManualClock::at(1));
    let registry = Registry::new(store, Arc::new(Sealer::new(&Secret::new([1; 32]))), clock);
    let (admin, options) = (Caller::local_admin("admin"), WriteOptions::default());
    let other = Caller::new(Principal::new("other", Role::Caller), "token");
    let url = "http://127.0.0.1:1/mcp".parse().unwrap();
    let over_http = draft(Transport::Http { url });
    let Begun::New(mut unit) = registry.begin::<Answer>(&admin, &options, ("", ())).await.unwrap()
    else {
        panic!("it was never done")
    };
    create(&mut unit, over_http.clone()).await.unwrap();
    unit.caller = &other;
    let new = UpstreamDraft { name: "b".parse().unwrap(), ..command() };
    assert_eq!(missing(create(&mut unit, new).await), Permission::StdioDefine);
    let stored = found(&mut unit, "a").await.unwrap();
    assert_eq!(missing(update(&mut unit, stored, command()).await), Permission::StdioDefine);
    let stored = found(&mut unit, "a").await.unwrap();
    update(&mut unit, stored, over_http).await.unwrap();
    unit.caller = &admin;
    let stored = found(&mut unit, "a").await.unwrap();
    update(&mut unit, stored, command()).await.unwrap();
}
