//! What may be registered, by whom: the use cases of upstreams, tools and virtual servers.
//!
//! Every method begins with the question whether the caller may, and every
//! write is one transaction: it bumps the revision once or leaves nothing.

use std::sync::Arc;

use proto::{
    Invalid, Permission, tool::ToolDraft, upstream::UpstreamDraft,
    virtual_server::VirtualServerDraft,
};
use tokio::sync::watch;

use crate::{
    caller::Caller,
    clock::Clock,
    config::StdioUpstreams,
    error::Error,
    seal::Sealer,
    store::{
        Store,
        counts::{self, Counts},
    },
};

mod apply;
mod credentials;
mod discovered;
mod entries;
mod names;
mod tools;
mod unit;
mod upstreams;
mod virtual_servers;

pub use apply::{Action, Applied, AppliedObject};

/// Most objects of one page; also what a list gives when nothing is asked.
const PAGE_MAX: u32 = 1000;
const PAGE_DEFAULT: u32 = 100;

/// The registry. Cloning shares it.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    wishes: watch::Sender<u64>,
    stdio: StdioUpstreams,
}

/// How a write is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// A repeated write with the same id changes nothing, for 24 h. It answers
    /// with the object that the first one made, as that object is now.
    pub request_id: Option<String>,
    /// Checks everything and changes nothing.
    pub validate_only: bool,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// 0: 100; at most 1000 are given.
    pub size: u32,
    /// Empty: from the beginning.
    pub token: String,
}

/// A part of a list, oldest objects first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// Empty: there is no more.
    pub next_page_token: String,
    /// The revision that was read.
    pub revision: u64,
}

/// An object to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draft {
    Upstream(UpstreamDraft),
    Tool(ToolDraft),
    VirtualServer(VirtualServerDraft),
}

impl Registry {
    pub fn new(store: Store, sealer: Arc<Sealer>, clock: Arc<dyn Clock>) -> Self {
        let (wishes, stdio) = (watch::Sender::new(0), StdioUpstreams::Allowed);
        Self { store, sealer, clock, wishes, stdio }
    }

    /// The same registry with another rule for commands.
    #[must_use]
    pub fn with_stdio(self, stdio: StdioUpstreams) -> Self {
        Self { stdio, ..self }
    }

    /// Changes whenever this process wished for a discovery. Wishes of others
    /// are seen by asking [`Registry::wanted_discoveries`] now and then.
    pub fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    fn wish(&self) {
        self.wishes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Numbers for the status page.
    pub async fn counts(&self, caller: &Caller) -> Result<Counts, Error> {
        caller.require(Permission::OperationsRead)?;
        let mut read = self.store.begin_read().await?;
        Ok(counts::read(&mut read).await?)
    }
}

impl Page {
    /// How many rows to read: one more than is given, to know whether more follow.
    fn limit(&self) -> u64 {
        u64::from(self.given()) + 1
    }

    fn given(&self) -> u32 {
        match self.size {
            0 => PAGE_DEFAULT,
            size => size.min(PAGE_MAX),
        }
    }

    /// The id after which the page begins.
    fn after(&self) -> Result<&str, Invalid> {
        let is_id = self.token.len() == 32 && self.token.chars().all(|c| c.is_ascii_hexdigit());
        if self.token.is_empty() || is_id {
            return Ok(&self.token);
        }
        Err(Invalid::new("page_token", "is not one that a list gave"))
    }

    /// Cuts what was read to the page.
    fn cut<T>(&self, mut items: Vec<T>, revision: u64, id: impl Fn(&T) -> &str) -> Listed<T> {
        let given = usize::try_from(self.given()).unwrap_or(usize::MAX);
        let more = items.len() > given;
        items.truncate(given);
        let last = items.last().filter(|_| more).map(|item| id(item).to_owned());
        Listed { items, next_page_token: last.unwrap_or_default(), revision }
    }
}

/// A new id: sorts by time, 32 hex digits like ContextForge's.
fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Optimistic concurrency: the writer must have seen the current version.
fn check_version(
    kind: &'static str,
    name: &str,
    current: u64,
    expected: Option<u64>,
) -> Result<(), Error> {
    match expected {
        None | Some(0) => Ok(()),
        Some(expected) if expected == current => Ok(()),
        Some(_) => Err(Error::Conflict { kind, name: name.to_owned(), current }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_whether_more_follow() {
        let page = Page { size: 2, token: String::new() };
        let ids = |count: usize| (0..count).map(|n| format!("{n}")).collect::<Vec<_>>();
        let listed = page.cut(ids(3), 7, |id| id);
        assert_eq!((listed.items.len(), listed.next_page_token.as_str()), (2, "1"));
        assert_eq!(page.cut(ids(2), 7, |id| id).next_page_token, "");
        assert_eq!(Page::default().limit(), 101);
        assert_eq!(Page { size: 9999, token: String::new() }.limit(), 1001);
    }

    #[test]
    fn a_foreign_page_token_is_refused() {
        let page = Page { size: 0, token: "x' OR 1=1".to_owned() };
        assert_eq!(page.after().unwrap_err().field, "page_token");
        assert!(Page { size: 0, token: new_id() }.after().is_ok());
    }

    #[test]
    fn a_stale_version_is_a_conflict() {
        assert!(check_version("tool", "t", 5, Some(5)).is_ok());
        assert!(check_version("tool", "t", 5, None).is_ok());
        let error = check_version("tool", "t", 5, Some(4)).unwrap_err();
        assert!(matches!(error, Error::Conflict { current: 5, .. }));
    }
}
