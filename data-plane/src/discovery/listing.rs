//! Reads everything that an upstream lists: all pages of tools, prompts, resources, templates.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use proto::{CatalogEntry, CatalogTool, EntryKind, tool::Definition};
use serde_json::value::RawValue;

use crate::{
    mcp::{Message, code, list::ListKind, mirror::mirror_params, response::quote},
    upstream::{Bounds, CallFailure, Limits, Lister, error_of, result_of},
};

const PAGES_MAX: usize = 100;
/// Most items of one list.
const ITEMS_MAX: usize = 10_000;
/// How long an upstream may take for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(super) tools: Vec<CatalogTool>,
    pub(super) entries: Vec<CatalogEntry>,
}

/// What tells one item from all others.
pub(super) type Key = (Option<EntryKind>, String);

impl Listing {
    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.entries.is_empty()
    }

    pub(super) fn keys(&self) -> BTreeSet<Key> {
        let tools = self.tools.iter().map(|tool| (None, tool.name.clone()));
        let entries = self.entries.iter().map(|it| (Some(it.kind), it.original.clone()));
        tools.chain(entries).collect()
    }

    /// Takes out what has one of these keys.
    pub(super) fn take(&mut self, keys: &BTreeSet<Key>) -> Self {
        let tools = self.tools.extract_if(.., |tool| keys.contains(&(None, tool.name.clone())));
        let tools = tools.collect();
        let entries =
            self.entries.extract_if(.., |it| keys.contains(&(Some(it.kind), it.original.clone())));
        Self { tools, entries: entries.collect() }
    }

    /// Adds what only clients with all these capabilities are shown.
    pub(super) fn add(&mut self, more: Self, needs: &[&str]) {
        let needs: Vec<String> = needs.iter().map(|&need| need.to_owned()).collect();
        self.tools.extend(
            more.tools
                .into_iter()
                .map(|tool| CatalogTool { needs_client_capabilities: needs.clone(), ..tool }),
        );
        self.entries.extend(
            more.entries
                .into_iter()
                .map(|entry| CatalogEntry { needs_client_capabilities: needs.clone(), ..entry }),
        );
    }

    /// Reads all lists that the upstream says it has.
    pub(super) async fn read(
        lister: &Lister,
        upstream: &str,
        limits: &Limits,
    ) -> Result<Self, CallFailure> {
        let capabilities = offered(&lister.handshake().capabilities);
        let mut listing = Self::default();
        for kind in ListKind::ALL {
            if !capabilities.contains_key(kind.capability()) {
                continue;
            }
            let reader = Reader { lister, upstream, limits, kind };
            match entry_kind(kind) {
                None => listing.tools = reader.all(|definition| tool(definition, lister)).await?,
                Some(kind) => {
                    listing.entries.extend(reader.all(|it| entry(it, kind)).await?);
                }
            }
        }
        Ok(listing)
    }
}

fn entry_kind(kind: ListKind) -> Option<EntryKind> {
    match kind {
        ListKind::Tools => None,
        ListKind::Prompts => Some(EntryKind::Prompt),
        ListKind::Resources => Some(EntryKind::Resource),
        ListKind::ResourceTemplates => Some(EntryKind::ResourceTemplate),
    }
}

/// The capabilities that an upstream declared.
fn offered(capabilities: &str) -> HashMap<Cow<'_, str>, &RawValue> {
    let mut offered: HashMap<_, &RawValue> = serde_json::from_str(capabilities).unwrap_or_default();
    offered.retain(|_, value| value.get() != "null");
    offered
}

/// One list of one upstream.
struct Reader<'a> {
    lister: &'a Lister,
    upstream: &'a str,
    limits: &'a Limits,
    kind: ListKind,
}

/// Something listed, and what tells it from others.
trait Named {
    fn name(&self) -> &str;
}

impl Named for CatalogTool {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for CatalogEntry {
    fn name(&self) -> &str {
        &self.original
    }
}

impl Reader<'_> {
    /// All pages; what cannot be read is left out.
    async fn all<T: Named>(
        &self,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Result<Vec<T>, CallFailure> {
        let (upstream, method) = (self.upstream, self.kind.method());
        let mut items: Vec<T> = Vec::new();
        let mut names = BTreeSet::new();
        let mut cursors = BTreeSet::new();
        let mut members = String::new();
        for _ in 0..PAGES_MAX {
            let timeout = PAGE_TIMEOUT.min(self.limits.call_timeout);
            let bounds = Bounds::of_step(self.limits, timeout);
            let answer = self.lister.ask(method, &members, &bounds).await?;
            let Some(page) = self.page(&answer)? else { return Ok(items) };
            for definition in page.items {
                match read(definition) {
                    Ok(item) if names.insert(item.name().to_owned()) => items.push(item),
                    Ok(item) => {
                        tracing::warn!(upstream, method, name = item.name(), "is listed twice");
                    }
                    Err(problem) => tracing::warn!(upstream, method, problem, "left out an item"),
                }
            }
            if items.len() > ITEMS_MAX {
                return Err(self.unusable(format!("more than {ITEMS_MAX} items")));
            }
            // The empty string is a cursor like any other.
            let Some(cursor) = page.next_cursor else { return Ok(items) };
            members = format!("\"cursor\":{}", quote(&cursor));
            if !cursors.insert(cursor) {
                return Err(self.unusable("a cursor that it gave before".to_owned()));
            }
        }
        Err(self.unusable(format!("more than {PAGES_MAX} pages")))
    }

    /// `None`: the upstream has no such list after all.
    fn page<'m>(&self, answer: &'m Message) -> Result<Option<Page<'m>>, CallFailure> {
        if let Some(error) = error_of(answer) {
            if error.code == code::METHOD_NOT_FOUND && self.kind != ListKind::Tools {
                return Ok(None);
            }
            let (method, code, message) = (self.kind.method(), error.code, &error.message);
            let what = format!("{method} gave error {code}: {message}");
            return Err(CallFailure::NotJsonRpc(what));
        }
        let result = result_of(answer).unwrap_or_default();
        let unusable = |error| self.unusable(format!("no list: {error}"));
        let members: HashMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(result).map_err(unusable)?;
        let text = |key: &str| members.get(key).map_or("null", |raw| raw.get());
        let items = serde_json::from_str(text(self.kind.member())).map_err(unusable)?;
        let next_cursor = serde_json::from_str(text("nextCursor")).map_err(unusable)?;
        Ok(Some(Page { items, next_cursor }))
    }

    fn unusable(&self, what: String) -> CallFailure {
        CallFailure::NotJsonRpc(format!("its {} has {what}", self.kind.method()))
    }
}

/// One page; definitions stay as they are.
struct Page<'a> {
    items: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

/// A tool as it is listed, unless clients must not be shown it.
fn tool(definition: &RawValue, lister: &Lister) -> Result<CatalogTool, String> {
    let text = definition.get();
    let read = Definition::of(text);
    if read.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    let schema = read.input_schema.map_or("{}", RawValue::get);
    if lister.is_http() {
        mirror_params(schema).map_err(|problem| format!("{}: {problem}", read.name))?;
    }
    Ok(CatalogTool {
        name: read.name,
        definition: text.to_owned(),
        needs_client_capabilities: Vec::new(),
    })
}

/// A prompt, resource or template as it is listed.
fn entry(definition: &RawValue, kind: EntryKind) -> Result<CatalogEntry, String> {
    let key = kind.key_member();
    let members: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(definition.get()).map_err(|error| error.to_string())?;
    let original = members.get(key).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let original = original.filter(|original| !original.is_empty());
    Ok(CatalogEntry {
        kind,
        original: original.ok_or_else(|| format!("it has no `{key}`"))?,
        definition: definition.get().to_owned(),
        needs_client_capabilities: Vec::new(),
    })
}
