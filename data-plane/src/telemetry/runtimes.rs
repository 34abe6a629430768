//! The runtimes that a proxy's tasks run on, so that tasks that never end are seen.

use parking_lot::RwLock;
use tokio::runtime::Handle;

/// Those that are known to have work of the proxy.
#[derive(Debug, Default)]
pub(super) struct Runtimes(RwLock<Vec<Handle>>);

impl Runtimes {
    /// The runtime of whoever calls this is one of them. Nearly always it is known already.
    pub(super) fn note(&self) {
        let Ok(here) = Handle::try_current() else { return };
        let is_here = |known: &Handle| known.id() == here.id();
        if self.0.read().iter().any(is_here) {
            return;
        }
        let mut all = self.0.write();
        if !all.iter().any(is_here) {
            all.push(here);
        }
    }

    /// The tasks that have begun and not ended.
    pub(super) fn tasks(&self) -> usize {
        self.0.read().iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtime_counts_once() {
        let runtimes = Runtimes::default();
        runtimes.note();
        assert_eq!(runtimes.tasks(), 0);
        let build = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (one, other) = (build(), build());
        for runtime in [&one, &other, &one] {
            let _in = runtime.enter();
            runtimes.note();
        }
        let endless = one.spawn(std::future::pending::<()>());
        other.spawn(std::future::pending::<()>());
        assert_eq!(runtimes.tasks(), 2);
        endless.abort();
        one.block_on(tokio::task::yield_now());
        assert_eq!(runtimes.tasks(), 1);
    }
}
