//! Where connections to upstreams live: on the runtime that serves clients.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;

/// The runtime on which connections live once it is known: the one that serves clients, or
/// each call over a connection that discovery opened would wake a thread of another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Home(Arc<OnceLock<Handle>>);

impl Home {
    /// Connections live on this runtime from now on; only the first one counts.
    pub(crate) fn settle(&self) {
        self.0.get_or_init(Handle::current);
    }

    /// The runtime, or that of the caller as long as there is none.
    pub(crate) fn known(&self) -> Option<Handle> {
        self.0.get().cloned().or_else(|| Handle::try_current().ok())
    }

    pub(super) fn handle(&self) -> Handle {
        self.0.get().cloned().unwrap_or_else(Handle::current)
    }
}

impl<F> hyper::rt::Executor<F> for Home
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.handle().spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn work_goes_home_wherever_it_is_asked_for() {
        let (home, elsewhere) = (Home::default(), Runtime::new().unwrap());
        let here = Runtime::new().unwrap();
        here.block_on(async { home.settle() });
        let (sender, receiver) = std::sync::mpsc::channel();
        elsewhere.block_on(async {
            home.settle();
            home.execute(async move { sender.send(Handle::current().id()).unwrap() });
        });
        assert_eq!(receiver.recv().unwrap(), here.handle().id());
    }
}
