//! Several objects at once: all or nothing, in any order.

use std::collections::HashMap;

use proto::{Invalid, resource::kind};
use serde::{Deserialize, Serialize};

use super::{
    Draft, Registry, WriteOptions, tools,
    unit::{Begun, Unit},
    upstreams, virtual_servers,
};
use crate::{caller::Caller, error::Error, store};

/// Most objects of one apply: it is one transaction, and others wait for it.
const OBJECTS_MAX: usize = 10_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Created,
    Updated,
    /// It is as the file says already.
    Unchanged,
}

/// One object of an apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedObject {
    /// `upstream`, `tool` or `server`.
    pub kind: String,
    pub name: String,
    pub action: Action,
}

/// The outcome of an apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// In the order of the request.
    pub objects: Vec<AppliedObject>,
    pub revision: u64,
}

impl Registry {
    /// Creates or updates objects in one transaction. They may refer to each
    /// other in any order. The first bad one is named with its field, and then
    /// nothing has changed.
    pub async fn apply(
        &self,
        caller: &Caller,
        drafts: Vec<Draft>,
        options: WriteOptions,
    ) -> Result<Applied, Error> {
        let body = digest_body(self, &drafts)?;
        let begun = self.begin::<Applied>(caller, &options, ("apply", body)).await?;
        let mut unit = match begun {
            Begun::Again(applied) => return Ok(applied),
            Begun::New(unit) => unit,
        };
        check(&drafts)?;
        let applied = apply_all(&mut unit, drafts).await?;
        unit.finish(&applied).await?;
        self.wish();
        Ok(applied)
    }
}

/// What decides the outcome of an apply.
fn digest_body(registry: &Registry, drafts: &[Draft]) -> Result<Vec<String>, Error> {
    let digests = drafts.iter().map(|draft| match draft {
        Draft::Upstream(it) => store::requests::digest(kind::UPSTREAM, &registry.upstream_body(it)),
        Draft::Tool(it) => store::requests::digest(kind::TOOL, &registry.tool_body(it)),
        Draft::VirtualServer(it) => {
            store::requests::digest(kind::SERVER, &virtual_servers::server_body(it))
        }
    });
    Ok(digests.collect::<Result<_, _>>()?)
}

impl Draft {
    fn kind(&self) -> &'static str {
        match self {
            Self::Upstream(_) => kind::UPSTREAM,
            Self::Tool(_) => kind::TOOL,
            Self::VirtualServer(_) => kind::SERVER,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Upstream(it) => it.name.as_str(),
            Self::Tool(it) => it.name.as_str(),
            Self::VirtualServer(it) => it.name.as_str(),
        }
    }

    /// Virtual servers come last: they refer to the others.
    fn rank(&self) -> u8 {
        match self {
            Self::Upstream(_) | Self::Tool(_) => 0,
            Self::VirtualServer(_) => 1,
        }
    }

    fn place(&self, index: usize) -> String {
        format!("objects[{index}] ({} `{}`)", self.kind(), self.name())
    }
}

fn check(drafts: &[Draft]) -> Result<(), Invalid> {
    if drafts.len() > OBJECTS_MAX {
        return Err(Invalid::new("objects", format!("are more than {OBJECTS_MAX}")));
    }
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some(first) = seen.insert((draft.kind(), draft.name()), index) {
            let field = format!("{}: name", draft.place(index));
            return Err(Invalid::new(field, format!("is the same as that of objects[{first}]")));
        }
    }
    Ok(())
}

async fn apply_all(unit: &mut Unit<'_>, drafts: Vec<Draft>) -> Result<Applied, Error> {
    let mut order: Vec<(usize, Draft)> = drafts.into_iter().enumerate().collect();
    order.sort_by_key(|(index, draft)| (draft.rank(), *index));
    let mut done = Vec::with_capacity(order.len());
    for (index, draft) in order {
        let place = draft.place(index);
        let (kind, name) = (draft.kind().to_owned(), draft.name().to_owned());
        let action = apply_one(unit, draft).await.map_err(|error| at(&place, error))?;
        done.push((index, AppliedObject { kind, name, action }));
    }
    done.sort_by_key(|(index, _)| *index);
    let objects = done.into_iter().map(|(_, object)| object).collect();
    Ok(Applied { objects, revision: unit.write.revision().await? })
}

async fn apply_one(unit: &mut Unit<'_>, draft: Draft) -> Result<Action, Error> {
    match draft {
        Draft::Upstream(draft) => {
            let name = draft.name.as_str();
            let found = store::upstreams::find(unit.write.connection(), name).await?;
            match found.filter(|it| it.upstream.name == draft.name) {
                Some(stored) => Ok(upstreams::update(unit, stored, draft).await?.1),
                None => upstreams::create(unit, draft).await.map(|_| Action::Created),
            }
        }
        Draft::Tool(draft) => {
            let name = draft.name.as_str();
            let found = store::tools::find(unit.write.connection(), name).await?;
            match found.filter(|it| it.tool.name == draft.name) {
                Some(stored) => {
                    tools::check_authored(&stored.tool)?;
                    Ok(tools::update(unit, stored, draft).await?.1)
                }
                None => tools::create(unit, draft).await.map(|_| Action::Created),
            }
        }
        Draft::VirtualServer(draft) => {
            let name = draft.name.as_str();
            let found = store::virtual_servers::find(unit.write.connection(), name).await?;
            match found.filter(|it| it.server.name == draft.name) {
                Some(stored) => Ok(virtual_servers::update(unit, stored, draft).await?.1),
                None => virtual_servers::create(unit, draft).await.map(|_| Action::Created),
            }
        }
    }
}

/// Says which object of the request an error is about.
fn at(place: &str, error: Error) -> Error {
    match error {
        Error::Invalid(Invalid { field, problem }) if field.is_empty() => {
            Invalid::new(place, problem).into()
        }
        Error::Invalid(Invalid { field, problem }) => {
            Invalid::new(format!("{place}: {field}"), problem).into()
        }
        Error::AlreadyExists { kind, name } => {
            Invalid::new(format!("{place}: name"), format!("is taken by {kind} `{name}`")).into()
        }
        other @ (Error::Unauthenticated(_)
        | Error::Forbidden { .. }
        | Error::NotFound { .. }
        | Error::Conflict { .. }
        | Error::InUse { .. }
        | Error::Exhausted(_)
        | Error::Unavailable(_)
        | Error::Internal(_)) => other,
    }
}
