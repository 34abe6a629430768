//! Turns changed configuration into what each group of proxies is told: pure, incremental, checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use proto::{
    Invalid, RootHash,
    proxy::STDIO_HOST,
    resource::{Resource, ToolTarget, UpstreamResource, key, kind},
    upstream::{Stdio, Transport},
    wire,
};

/// Largest resource, encoded. Bigger ones are refused when they are written.
pub const RESOURCE_MAX: usize = 1024 * 1024;

/// Proxies that are told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Never sees what only a stdio child needs.
    Edge,
    /// May run stdio children, so it also gets their credentials and environment.
    StdioHost,
}

impl Group {
    /// The group of a proxy with these capabilities.
    pub fn of(capabilities: &[String]) -> Self {
        if capabilities.iter().any(|it| it == STDIO_HOST) { Self::StdioHost } else { Self::Edge }
    }
}

/// One change of configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Upsert(Resource),
    Remove(wire::ResourceKey),
}

/// All that one group is told, encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    resources: BTreeMap<wire::ResourceKey, Arc<wire::Resource>>,
    root: RootHash,
}

impl View {
    pub fn root(&self) -> RootHash {
        self.root
    }

    pub fn get(&self, key: &wire::ResourceKey) -> Option<&Arc<wire::Resource>> {
        self.resources.get(key)
    }

    /// Every resource, in the order of keys.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<wire::Resource>> {
        self.resources.values()
    }

    fn set(&mut self, key: &wire::ResourceKey, resource: Option<Arc<wire::Resource>>) {
        let old = match resource {
            Some(new) => {
                self.root.add(RootHash::of(&new));
                self.resources.insert(key.clone(), new)
            }
            None => self.resources.remove(key),
        };
        if let Some(old) = old {
            self.root.subtract(RootHash::of(&old));
        }
    }
}

/// Encodes a resource and reads it back as a proxy would: what a proxy would
/// refuse is refused here, with the field.
pub fn check(resource: Resource) -> Result<wire::Resource, Invalid> {
    let wire = resource.encode();
    verify(&wire)?;
    Ok(wire)
}

fn verify(wire: &wire::Resource) -> Result<(), Invalid> {
    if wire.body.len() > RESOURCE_MAX {
        return Err(Invalid::new("", format!("is larger than {RESOURCE_MAX} bytes")));
    }
    Resource::decode(wire).map(drop)
}

/// What a batch of changes touched.
#[derive(Debug, Default, PartialEq)]
pub struct Touched {
    pub keys: BTreeSet<wire::ResourceKey>,
    /// Left out of every view, because no proxy could load it.
    pub refused: Vec<(wire::ResourceKey, Invalid)>,
}

/// Keeps the views of all groups in step with the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Builder {
    edge: View,
    stdio_host: View,
    /// Every credential, whoever needs it.
    credentials: BTreeMap<wire::ResourceKey, Arc<wire::Resource>>,
    /// The credential that an upstream or tool uses.
    needs: BTreeMap<wire::ResourceKey, wire::ResourceKey>,
    /// Who uses a credential, and the group that must have it for that.
    users: BTreeMap<wire::ResourceKey, BTreeMap<wire::ResourceKey, Group>>,
}

impl Builder {
    pub fn view(&self, group: Group) -> &View {
        match group {
            Group::Edge => &self.edge,
            Group::StdioHost => &self.stdio_host,
        }
    }

    /// Applies changes in order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Remove(key) => self.remove(key, &mut touched),
                Change::Upsert(resource) => self.upsert(resource, &mut touched),
            }
        }
        let credentials: Vec<_> =
            touched.keys.iter().filter(|key| key.kind == kind::CREDENTIAL).cloned().collect();
        for key in &credentials {
            self.place(key);
        }
        touched
    }

    /// Replaces everything; touched is what is now and what no longer is.
    pub fn rebuild(&mut self, resources: impl IntoIterator<Item = Resource>) -> Touched {
        let old = mem::take(self);
        let mut touched = self.apply(resources.into_iter().map(Change::Upsert));
        touched.keys.extend(old.stdio_host.resources.into_keys());
        touched.keys.extend(old.edge.resources.into_keys());
        touched
    }

    fn upsert(&mut self, resource: Resource, touched: &mut Touched) {
        let need = need_of(&resource);
        let edge = for_edge(&resource).map(|resource| Arc::new(resource.encode()));
        let host = Arc::new(resource.encode());
        let key = host.key.clone().unwrap_or_default();
        let verified = verify(&host).and_then(|()| edge.as_deref().map_or(Ok(()), verify));
        if let Err(invalid) = verified {
            self.remove(key.clone(), touched);
            touched.refused.push((key, invalid));
            return;
        }
        if key.kind == kind::CREDENTIAL {
            self.credentials.insert(key.clone(), host);
        } else {
            self.set_need(&key, need, touched);
            self.edge.set(&key, Some(edge.unwrap_or_else(|| Arc::clone(&host))));
            self.stdio_host.set(&key, Some(host));
        }
        touched.keys.insert(key);
    }

    fn remove(&mut self, key: wire::ResourceKey, touched: &mut Touched) {
        if key.kind == kind::CREDENTIAL {
            self.credentials.remove(&key);
        } else {
            self.set_need(&key, None, touched);
            self.edge.set(&key, None);
            self.stdio_host.set(&key, None);
        }
        touched.keys.insert(key);
    }

    fn set_need(
        &mut self,
        user: &wire::ResourceKey,
        need: Option<(wire::ResourceKey, Group)>,
        touched: &mut Touched,
    ) {
        if let Some(old) = self.needs.remove(user) {
            if let Some(users) = self.users.get_mut(&old) {
                users.remove(user);
                if users.is_empty() {
                    self.users.remove(&old);
                }
            }
            touched.keys.insert(old);
        }
        if let Some((credential, group)) = need {
            self.users.entry(credential.clone()).or_default().insert(user.clone(), group);
            self.needs.insert(user.clone(), credential.clone());
            touched.keys.insert(credential);
        }
    }

    /// Puts a credential into the views of those who need it, and of nobody else.
    fn place(&mut self, key: &wire::ResourceKey) {
        let credential = self.credentials.get(key);
        let users = self.users.get(key);
        let any = users.is_some();
        let edge = users.is_some_and(|users| users.values().any(|group| *group == Group::Edge));
        self.stdio_host.set(key, credential.filter(|_| any).cloned());
        self.edge.set(key, credential.filter(|_| edge).cloned());
    }
}

/// The credential that a resource uses, and the lesser group that must have it.
fn need_of(resource: &Resource) -> Option<(wire::ResourceKey, Group)> {
    let (id, group) = match resource {
        Resource::Upstream(upstream) => {
            let group = match upstream.transport {
                Transport::Http { .. } | Transport::Sse { .. } | Transport::WebSocket { .. } => {
                    Group::Edge
                }
                Transport::Stdio(_) => Group::StdioHost,
            };
            (upstream.credential_id.as_ref()?, group)
        }
        Resource::Tool(tool) => match &tool.target {
            ToolTarget::Rest { credential_id, .. } => (credential_id.as_ref()?, Group::Edge),
            ToolTarget::Upstream { .. } => return None,
        },
        Resource::Entry(_)
        | Resource::VirtualServer(_)
        | Resource::Token(_)
        | Resource::Key(_)
        | Resource::Credential(_)
        | Resource::Proxy(_)
        | Resource::EndedSessions(_) => return None,
    };
    Some((key(kind::CREDENTIAL, "", id), group))
}

/// The form for proxies that run no children, where it differs.
fn for_edge(resource: &Resource) -> Option<Resource> {
    let Resource::Upstream(upstream) = resource else { return None };
    let Transport::Stdio(stdio) = &upstream.transport else { return None };
    let stdio = Stdio { env: BTreeMap::new(), ..stdio.clone() };
    Some(Resource::Upstream(UpstreamResource {
        transport: Transport::Stdio(stdio),
        ..upstream.clone()
    }))
}
