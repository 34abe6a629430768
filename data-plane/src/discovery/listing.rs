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

/// How much is read of an upstream.
#[derive(Debug)]
pub(super) struct Extent {
    /// Most items of one list.
    items: usize,
    /// Of all definitions together.
    bytes: usize,
    /// How long the upstream may take for one page.
    page_timeout: Duration,
}

/// For the configuration, which looks at each by itself.
pub(super) const FOR_ALL: Extent =
    Extent { items: 10_000, bytes: usize::MAX, page_timeout: Duration::from_secs(30) };
/// For one of many callers.
pub(super) const FOR_ONE: Extent =
    Extent { items: 2000, bytes: 4 * 1024 * 1024, page_timeout: Duration::from_secs(10) };

/// What the pages of all lists have in common.
#[derive(Debug, Default)]
struct Read {
    bytes: usize,
    /// The shortest time for which one may be kept, in milliseconds.
    ttl_ms: Option<u64>,
}

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

    /// The same, each with what clients need for it.
    pub(super) fn needing(mut self, needs: impl Fn(&Key) -> &'static [&'static str]) -> Self {
        let named = |key| needs(&key).iter().map(|&need| need.to_owned()).collect();
        for tool in &mut self.tools {
            tool.needs_client_capabilities = named((None, tool.name.clone()));
        }
        for entry in &mut self.entries {
            entry.needs_client_capabilities = named((Some(entry.kind), entry.original.clone()));
        }
        self
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
        let capabilities = &lister.handshake().capabilities;
        let who = (lister, upstream);
        Self::read_within(who, capabilities, limits, &FOR_ALL).await.map(|(listing, _)| listing)
    }

    /// Reads all lists of an upstream with these capabilities, and for how many milliseconds
    /// they may be kept, if it says so.
    pub(super) async fn read_within(
        (lister, upstream): (&Lister, &str),
        capabilities: &str,
        limits: &Limits,
        extent: &Extent,
    ) -> Result<(Self, Option<u64>), CallFailure> {
        let capabilities = offered(capabilities);
        let (mut listing, mut read) = (Self::default(), Read::default());
        for kind in ListKind::ALL {
            if !capabilities.contains_key(kind.capability()) {
                continue;
            }
            let reader = Reader { lister, upstream, limits, extent, kind };
            match entry_kind(kind) {
                None => {
                    let tools = reader.all(&mut read, |definition| tool(definition, lister));
                    listing.tools = tools.await?;
                }
                Some(kind) => {
                    let entries = reader.all(&mut read, |definition| entry(definition, kind));
                    listing.entries.extend(entries.await?);
                }
            }
        }
        Ok((listing, read.ttl_ms))
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
    extent: &'a Extent,
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
        so_far: &mut Read,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Result<Vec<T>, CallFailure> {
        let (upstream, method) = (self.upstream, self.kind.method());
        let mut items: Vec<T> = Vec::new();
        let mut names = BTreeSet::new();
        let mut cursors = BTreeSet::new();
        let mut members = String::new();
        for _ in 0..PAGES_MAX {
            let timeout = self.extent.page_timeout.min(self.limits.call_timeout);
            let bounds = Bounds::of_step(self.limits, timeout);
            let answer = self.lister.ask(method, &members, &bounds).await?;
            let Some(page) = self.page(&answer)? else { return Ok(items) };
            so_far.ttl_ms = so_far.ttl_ms.into_iter().chain(page.ttl_ms).min();
            for definition in page.items {
                so_far.bytes = so_far.bytes.saturating_add(definition.get().len());
                match read(definition) {
                    Ok(item) if names.insert(item.name().to_owned()) => items.push(item),
                    Ok(item) => {
                        tracing::warn!(upstream, method, name = item.name(), "is listed twice");
                    }
                    Err(problem) => tracing::warn!(upstream, method, problem, "left out an item"),
                }
            }
            let Extent { items: most, bytes, page_timeout: _ } = self.extent;
            if items.len() > *most {
                return Err(self.unusable(format!("more than {most} items")));
            }
            if so_far.bytes > *bytes {
                return Err(self.unusable(format!("more than {bytes} bytes")));
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
        // One that cannot be read says nothing.
        let ttl_ms = serde_json::from_str(text("ttlMs")).unwrap_or_default();
        Ok(Some(Page { items, next_cursor, ttl_ms }))
    }

    fn unusable(&self, what: String) -> CallFailure {
        CallFailure::NotJsonRpc(format!("its {} has {what}", self.kind.method()))
    }
}

/// One page; definitions stay as they are.
struct Page<'a> {
    items: Vec<&'a RawValue>,
    next_cursor: Option<String>,
    ttl_ms: Option<u64>,
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
