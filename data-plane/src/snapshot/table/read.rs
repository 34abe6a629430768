//! Tools, prompts and resources as they were read, so that the next configuration need not read them.

use std::sync::Arc;

use proto::resource::ToolResource;

use super::{
    changed::ToolChange,
    chunked::{Chunked, Place},
    earlier::Key,
    entry::{self, ToolEntry},
    offer::Offer,
    parts::Parts,
    sharded::Sharded,
};

/// What is read of resources one by one, so that it need not be read again.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// In the order of their keys.
    pub(super) tools: Chunked<Arc<ToolEntry>>,
    /// Exposed names of all of them, which no other may have.
    names: Sharded<()>,
    /// In the order of their keys.
    pub(super) offers: Arc<[Arc<Offer>]>,
}

impl Read {
    pub(super) fn of(parts: &Parts<'_>) -> Self {
        let mut names = Sharded::for_names(parts.tools.len());
        for tool in &parts.tools {
            names.insert(&tool.name, ());
        }
        let tools = parts.tools.iter().cloned().collect();
        Self { tools, names, offers: parts.offers.as_slice().into() }
    }

    /// What was read of this tool, unless it was left out.
    pub(super) fn tool(&self, tool: &ToolResource) -> Option<Arc<ToolEntry>> {
        let place = self.place(entry::key_of(tool)).ok()?;
        self.tools.get(place).filter(|it| it.is_of(tool)).map(Arc::clone)
    }

    fn place(&self, key: Key<'_>) -> Result<Place, Place> {
        self.tools.search(|it| it.key().cmp(&key))
    }

    /// `None` if a name is taken.
    pub(super) fn take(&mut self, change: &ToolChange) -> Option<()> {
        let (old, new) = match change {
            ToolChange::Described { old, new } => {
                return self.tools.replace(self.place(old.key()).ok()?, Arc::clone(new));
            }
            ToolChange::Replaced { old, new } => (old, new),
        };
        if let Some(old) = old {
            self.tools.remove(self.place(old.key()).ok()?)?;
            self.names.remove(&old.name)?;
        }
        if let Some(new) = new {
            self.tools.insert(self.place(new.key()).err()?, Arc::clone(new))?;
            if self.names.insert(&new.name, ()).is_some() {
                return None;
            }
        }
        Some(())
    }
}
