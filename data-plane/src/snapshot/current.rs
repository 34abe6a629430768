//! The configuration that is active now: one pointer that requests load and updates swap.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use proto::Position;
use tokio::sync::watch;

use super::table::Table;

/// Holds the active table, none before the first configuration.
pub struct Current {
    table: ArcSwapOption<Table>,
    position: watch::Sender<Option<Position>>,
    prepare: Prepare,
}

/// What must follow a table before requests see it.
type Prepare = Box<dyn Fn(&Arc<Table>) + Send + Sync>;

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Current({:?})", *self.position.borrow())
    }
}

impl Current {
    /// No table yet. `prepare` runs in each [`Current::store`] before the table is active.
    pub fn new(prepare: impl Fn(&Arc<Table>) + Send + Sync + 'static) -> Self {
        Self {
            table: ArcSwapOption::empty(),
            position: watch::Sender::new(None),
            prepare: Box::new(prepare),
        }
    }

    /// The active table. A request loads it once and keeps to it.
    pub fn load(&self) -> Option<Arc<Table>> {
        self.table.load_full()
    }

    /// Makes a table active, and then tells who watches.
    pub fn store(&self, table: Arc<Table>) {
        (self.prepare)(&table);
        let position = table.position.clone();
        self.table.store(Some(table));
        self.position.send_replace(Some(position));
    }

    /// The position of the active table, and each later one.
    pub fn watch(&self) -> watch::Receiver<Option<Position>> {
        self.position.subscribe()
    }
}
