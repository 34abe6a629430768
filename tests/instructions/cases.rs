//! What is counted: the steps of a call, of a list and of a change.

use std::{hint::black_box, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use control_plane::snapshot::{
    build::{Change, Group},
    ledger::Ledger,
};
use data_plane::{
    mcp::{
        Capabilities, Message, Version,
        list::ListKind,
        message::parse,
        translate::{self, Audience, Subject, Terms},
        version::{self, MirrorHeaders},
    },
    route::{self, Client, Plan},
    session::{SessionClaims, SessionKeys},
    snapshot::{
        apply::{Applier, Step},
        current::Current,
        table::Table,
    },
};
use proto::{Era, Principal, Role};
use tests::sample;

type Operation = Box<dyn FnMut() -> anyhow::Result<()>>;

/// Something that is done again and again.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Does what is not counted.
    pub(crate) prepare: fn() -> anyhow::Result<Operation>,
}

pub(crate) const CASES: [Case; 11] = [
    Case { name: "parse a call", prepare: parse_call },
    Case { name: "tell its era", prepare: tell_era },
    Case { name: "plan it among 1,000 tools", prepare: plan_call },
    Case { name: "splice it for the upstream", prepare: splice_call },
    Case { name: "splice the answer for the client", prepare: splice_answer },
    Case { name: "seal a session", prepare: seal_session },
    Case { name: "open a session", prepare: open_session },
    Case { name: "merge 1,000 tools into a list", prepare: merge_list },
    Case { name: "build a change in 1,000 tools", prepare: build_change },
    Case { name: "apply a change in 1,000 tools", prepare: apply_change },
    Case { name: "add a tool to 1,000 and remove it", prepare: add_and_remove },
];

const TOOL: &str = "weather-get_forecast_7";
/// 303 bytes.
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"weather-get_forecast_7","arguments":{"city":"Dublin","unit":"C","note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"_meta":{"progressToken":"p"}}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":99,"result":{"content":[{"type":"text","text":"{\"forecast\":\"sunny\",\"temp\":21.5,\"unit\":\"C\",\"city\":\"Dublin\"}"}],"isError":false}}"#;

fn call() -> anyhow::Result<Message> {
    Ok(parse(CALL.into())?)
}

fn parse_call() -> anyhow::Result<Operation> {
    let body = Bytes::from_static(CALL.as_bytes());
    ensure!(body.len() == 303, "the call has {} bytes", body.len());
    Ok(Box::new(move || {
        black_box(parse(body.clone())?);
        Ok(())
    }))
}

fn tell_era() -> anyhow::Result<Operation> {
    let call = call()?;
    let headers =
        MirrorHeaders { protocol_version: Some(b"2025-11-25"), ..MirrorHeaders::default() };
    Ok(Box::new(move || {
        black_box(version::era_of(&call, &headers)?);
        Ok(())
    }))
}

fn table(tools: usize) -> anyhow::Result<Table> {
    let resources = sample::resources(tools)?;
    let table = Table::compile(resources.iter(), sample::position());
    table.map_err(|errors| anyhow::anyhow!("{errors:?}"))
}

fn plan_call() -> anyhow::Result<Operation> {
    let (table, call) = (table(1000)?, call()?);
    let principal = Principal::new("ann", Role::Caller);
    let client = Client { version: Version::V2025_11_25, capabilities: Capabilities::NONE };
    Ok(Box::new(move || {
        let plan = route::plan((&table, table.everything()), &principal, &call, client)?;
        ensure!(matches!(plan, Plan::Forward { .. }), "{plan:?}");
        Ok(())
    }))
}

fn splice_call() -> anyhow::Result<Operation> {
    let call = call()?;
    Ok(Box::new(move || {
        let terms = Terms {
            era: Era::Legacy,
            version: "2025-11-25",
            subject: Subject::Name("get_forecast_7"),
            id: None,
            progress_token: None,
            capabilities: Capabilities::NONE,
            written: None,
            log_level: None,
        };
        black_box(translate::request_to_upstream(&call, &terms));
        Ok(())
    }))
}

fn splice_answer() -> anyhow::Result<Operation> {
    let answer = parse(ANSWER.into())?;
    Ok(Box::new(move || {
        let audience = Audience { era: Era::Legacy, id: b"7", asked_uri: None, uris: None };
        black_box(translate::response_to_client(&answer, &audience));
        Ok(())
    }))
}

fn session() -> anyhow::Result<(SessionKeys, SessionClaims)> {
    let claims = SessionClaims {
        id: [1; 16],
        principal: [2; 16],
        server: "tools".into(),
        version: Version::V2025_11_25,
        capabilities: Capabilities::NONE,
        written: None,
        owner: "6b8d2c1e-0000-4000-8000-000000000000".into(),
        issued_at_ms: 1,
    };
    Ok((table(1)?.session_keys().clone(), claims))
}

fn seal_session() -> anyhow::Result<Operation> {
    let (keys, claims) = session()?;
    Ok(Box::new(move || {
        black_box(keys.seal(&claims)?);
        Ok(())
    }))
}

fn open_session() -> anyhow::Result<Operation> {
    let (keys, claims) = session()?;
    let id = keys.seal(&claims)?;
    Ok(Box::new(move || {
        black_box(keys.open(&id, 2)?);
        Ok(())
    }))
}

fn merge_list() -> anyhow::Result<Operation> {
    let table = table(1000)?;
    // By pages, since a whole list is rendered once and kept.
    Ok(Box::new(move || {
        let everything = table.everything();
        let none = Capabilities::NONE;
        let of = (ListKind::Tools, Era::Modern, none);
        ensure!(everything.page(of, (0, 1000), |_| None).len() > 100_000, "a short list");
        Ok(())
    }))
}

/// The tool that changes, each time into something else.
fn changes() -> impl FnMut() -> (u64, proto::resource::Resource) {
    let mut revision = 1;
    move || {
        revision += 1;
        (revision, sample::tool(7, &format!(" Revision {revision}.")))
    }
}

fn ledger() -> anyhow::Result<Ledger> {
    Ok(Ledger::new("e".to_owned(), 1, sample::resources(1_000)?).0)
}

fn build_change() -> anyhow::Result<Operation> {
    let (mut ledger, mut change) = (ledger()?, changes());
    Ok(Box::new(move || {
        let base = ledger.head(Group::Edge);
        let (revision, resource) = change();
        ledger.advance(revision, [Change::Upsert(resource)]);
        ensure!(ledger.update(Group::Edge, Some(&base)).len() == 1, "more than one part");
        Ok(())
    }))
}

fn apply_change() -> anyhow::Result<Operation> {
    let (mut follow, mut change) = (follower()?, changes());
    Ok(Box::new(move || {
        let (revision, resource) = change();
        let table = follow(revision, Change::Upsert(resource))?;
        table.everything().tool(TOOL).context("the tool is gone")?;
        Ok(())
    }))
}

fn add_and_remove() -> anyhow::Result<Operation> {
    let mut follow = follower()?;
    let mut revision = 1;
    let new = sample::tool(1000, "");
    let key = new.clone().encode().key.context("a tool without a key")?;
    Ok(Box::new(move || {
        let changes = [Change::Upsert(new.clone()), Change::Remove(key.clone())];
        for (change, is_there) in changes.into_iter().zip([true, false]) {
            revision += 1;
            let table = follow(revision, change)?;
            let found = table.everything().tool("weather-get_forecast_1000");
            ensure!(found.is_some() == is_there, "a tool too many or too few");
        }
        Ok(())
    }))
}

/// What takes one change at a time as a control plane and a proxy do, and gives what is active then.
fn follower() -> anyhow::Result<impl FnMut(u64, Change) -> anyhow::Result<Arc<Table>>> {
    let mut ledger = ledger()?;
    let current = Arc::new(Current::new(|_| ()));
    let active = Arc::clone(&current);
    let mut applier = Applier::new(Box::new(move |resources, position, changed| {
        let before = active.load();
        Table::follow(before.as_deref(), resources, position, changed).map(Arc::new)
    }));
    let parts = ledger.update(Group::Edge, None);
    let mut take = move |parts: &[proto::wire::Update]| {
        for part in parts {
            if let Step::Done(done) = applier.part(part.clone())? {
                let taken = done.result.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
                current.store(Arc::clone(&taken.table));
                return Ok(taken.table);
            }
        }
        bail!("the update has no end")
    };
    take(&parts)?;
    Ok(move |revision, change| {
        let base = ledger.head(Group::Edge);
        ledger.advance(revision, [change]);
        take(&ledger.update(Group::Edge, Some(&base)))
    })
}
