//! Random configuration: what the store would hold, and every content it ever had.

use std::collections::{BTreeMap, HashMap};

use control_plane::snapshot::{
    build::{Builder, Change, Group, View},
    ledger::Ledger,
};
use proptest::prelude::*;
use proto::{
    Position, Role, Secret,
    resource::{
        CredentialResource, Resource, TokenResource, ToolResource, ToolTarget, UpstreamResource,
        key, kind,
    },
    upstream::{CatalogScope, Stdio, Transport},
    wire,
};

/// One write of an administrator.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Token(u8, u8),
    Tool(u8, u8),
    Upstream(u8, Kind, Option<u8>),
    Credential(u8, u8),
    Remove(&'static str, u8),
    /// A tool that the proxy's compiler refuses.
    Poison,
    Cure,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Http,
    Stdio,
}

pub(crate) fn write() -> impl Strategy<Value = Write> {
    let id = 0..4u8;
    let kind = prop_oneof![Just(Kind::Http), Just(Kind::Stdio)];
    prop_oneof![
        (id.clone(), any::<u8>()).prop_map(|(id, value)| Write::Token(id, value)),
        (id.clone(), any::<u8>()).prop_map(|(id, value)| Write::Tool(id, value)),
        (id.clone(), kind, prop::option::of(id.clone()))
            .prop_map(|(id, kind, credential)| Write::Upstream(id, kind, credential)),
        (id.clone(), any::<u8>()).prop_map(|(id, value)| Write::Credential(id, value)),
        (
            prop::sample::select(vec![
                kind::TOKEN,
                kind::TOKEN,
                kind::TOOL,
                kind::UPSTREAM,
                kind::CREDENTIAL
            ]),
            id
        )
            .prop_map(|(kind, id)| Write::Remove(kind, id)),
        Just(Write::Poison),
        Just(Write::Cure),
    ]
}

/// The store: current resources, its change log, and every content it had.
pub(crate) struct Store {
    pub(crate) epoch: String,
    pub(crate) revision: u64,
    resources: BTreeMap<wire::ResourceKey, Resource>,
    log: Vec<(u64, wire::ResourceKey)>,
    history: HashMap<(String, u64), Builder>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let mut store = Self {
            epoch: "e1".to_owned(),
            revision: 0,
            resources: BTreeMap::new(),
            log: Vec::new(),
            history: HashMap::new(),
        };
        store.record();
        store
    }

    fn record(&mut self) {
        let mut oracle = Builder::default();
        oracle.rebuild(self.resources.values().cloned());
        self.history.insert((self.epoch.clone(), self.revision), oracle);
    }

    /// What the change means to a ledger that is running.
    pub(crate) fn write(&mut self, write: &Write) -> Vec<Change> {
        let change = change_of(write);
        self.revision += 1;
        match &change {
            Change::Upsert(resource) => {
                let key = resource.clone().encode().key.unwrap();
                self.log.push((self.revision, key.clone()));
                self.resources.insert(key, resource.clone());
            }
            Change::Remove(key) => {
                self.log.push((self.revision, key.clone()));
                self.resources.remove(key);
            }
        }
        self.record();
        vec![change]
    }

    /// Comes back from a backup: another epoch, fewer revisions.
    pub(crate) fn restore(&mut self) {
        self.epoch = format!("{}x", self.epoch);
        self.revision /= 2;
        self.resources.pop_last();
        self.log.clear();
        self.record();
    }

    /// A control plane that starts now and reads its change log.
    pub(crate) fn start_remembering(&self) -> Ledger {
        let mut ledger = self.start();
        if !self.log.is_empty() {
            ledger.remember(0, self.log.clone());
        }
        ledger
    }

    /// A control plane that starts now, below the floor of its change log.
    pub(crate) fn start(&self) -> Ledger {
        let resources = self.resources.values().cloned();
        Ledger::new(self.epoch.clone(), self.revision, resources).0
    }

    /// What a group must see at a position that a proxy claims.
    pub(crate) fn content(&self, position: &Position, group: Group) -> Option<&View> {
        let oracle = self.history.get(&(position.store_epoch.clone(), position.revision))?;
        Some(oracle.view(group))
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.resources.contains_key(&key(kind::TOOL, "poison", "poison"))
    }
}

fn change_of(write: &Write) -> Change {
    match *write {
        Write::Token(id, value) => Change::Upsert(Resource::Token(TokenResource {
            id: id.to_string(),
            digest: [value; 32],
            subject: "someone".to_owned(),
            role: Role::Caller,
            expire_time_ms: None,
        })),
        Write::Tool(id, value) => Change::Upsert(tool(&id.to_string(), "u", value)),
        Write::Poison => Change::Upsert(tool("poison", "poison", 0)),
        Write::Cure => Change::Remove(key(kind::TOOL, "poison", "poison")),
        Write::Upstream(id, kind, credential) => Change::Upsert(upstream(id, kind, credential)),
        Write::Credential(id, value) => Change::Upsert(Resource::Credential(CredentialResource {
            id: id.to_string(),
            headers: BTreeMap::from([("x-key".to_owned(), Secret::new(format!("secret-{value}")))]),
        })),
        Write::Remove(kind, id) => {
            let owner = if kind == kind::TOOL { "u" } else { "" };
            Change::Remove(key(kind, owner, &id.to_string()))
        }
    }
}

fn tool(id: &str, upstream_id: &str, value: u8) -> Resource {
    Resource::Tool(ToolResource {
        id: id.to_owned(),
        name: format!("tool-{id}"),
        target: ToolTarget::Upstream {
            upstream_id: upstream_id.to_owned(),
            original_name: id.to_owned(),
        },
        definition: format!(r#"{{"name":"{id}","title":"{value}"}}"#),
        needs_client_capabilities: Vec::new(),
        aliases: Vec::new(),
    })
}

fn upstream(id: u8, kind: Kind, credential: Option<u8>) -> Resource {
    let transport = match kind {
        Kind::Stdio => Transport::Stdio(Stdio {
            command: "server".to_owned(),
            args: Vec::new(),
            env: BTreeMap::from([("TOKEN".to_owned(), "secret-environment".to_owned())]),
            working_directory: String::new(),
            mode: proto::upstream::StdioMode::Shared,
        }),
        Kind::Http => Transport::Http { url: "http://127.0.0.1:1/mcp".parse().unwrap() },
    };
    Resource::Upstream(UpstreamResource {
        id: id.to_string(),
        name: format!("u{id}").parse().unwrap(),
        transport,
        credential_id: credential.map(|id| id.to_string()),
        catalog_scope: CatalogScope::Shared,
        era: None,
        protocol_version: String::new(),
        instructions: String::new(),
        disabled: false,
        capabilities: String::new(),
    })
}
