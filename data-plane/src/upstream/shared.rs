//! Work that many callers wait for and that goes on when one of them leaves.

use std::{future::Future, sync::Arc};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

use super::failure::CallFailure;

type State<T> = Option<Result<T, CallFailure>>;

/// One running or finished piece of work.
#[derive(Debug)]
struct Shared<T> {
    state: watch::Receiver<State<T>>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// Starts `work` as a task of `runtime`.
    fn start<F>(runtime: &Handle, work: F) -> Self
    where
        F: Future<Output = Result<T, CallFailure>> + Send + 'static,
    {
        let (sender, state) = watch::channel(None);
        runtime.spawn(async move {
            let result = work.await;
            sender.send_replace(Some(result));
        });
        Self { state }
    }

    /// The result, once there is one.
    async fn wait(mut self) -> Result<T, CallFailure> {
        match self.state.wait_for(Option::is_some).await {
            Ok(state) => state.clone().unwrap_or(Err(CallFailure::Gone)),
            // The runtime ended under the task.
            Err(_) => Err(CallFailure::Gone),
        }
    }

    /// The value, if the work succeeded already.
    fn finished(&self) -> Option<T> {
        self.state.borrow().as_ref().and_then(|result| result.as_ref().ok().cloned())
    }

    fn is(&self, other: &Self) -> bool {
        self.state.same_channel(&other.state)
    }

    fn is_usable(&self) -> bool {
        match &*self.state.borrow() {
            Some(result) => result.is_ok(),
            // Without a sender nothing will ever come.
            None => self.state.has_changed().is_ok(),
        }
    }
}

/// A place for one piece of work at a time; failures are not kept.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// The finished value, for callers that shall not meet at a lock.
    value: ArcSwapOption<T>,
    current: Mutex<Option<Shared<Arc<T>>>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: ArcSwapOption::empty(), current: Mutex::new(None) }
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// What is there for callers that need not wait.
    pub(crate) fn filled(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// What is there or under way; otherwise starts `work` as a task of `runtime`.
    pub(crate) async fn get<F>(
        &self,
        runtime: impl FnOnce() -> Handle,
        work: impl FnOnce() -> F,
    ) -> Result<Arc<T>, CallFailure>
    where
        F: Future<Output = Result<Arc<T>, CallFailure>> + Send + 'static,
    {
        if let Some(value) = self.value.load_full() {
            return Ok(value);
        }
        let shared = {
            let mut current = self.current.lock();
            match current.as_ref().filter(|shared| shared.is_usable()) {
                Some(shared) => shared.clone(),
                None => current.insert(Shared::start(&runtime(), work())).clone(),
            }
        };
        let value = shared.clone().wait().await?;
        // Somebody may have emptied the slot meanwhile.
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.is(&shared)) {
            *current = None;
            self.value.store(Some(Arc::clone(&value)));
        }
        Ok(value)
    }

    /// Fills the slot.
    pub(crate) fn put(&self, value: Arc<T>) {
        let mut current = self.current.lock();
        *current = None;
        self.value.store(Some(value));
    }

    /// What is there now, finished.
    pub(crate) fn peek(&self) -> Option<Arc<T>> {
        self.value.load_full().or_else(|| self.current.lock().as_ref().and_then(Shared::finished))
    }

    /// Empties the slot if it still holds `old`, so that late complaints about a
    /// replaced value change nothing.
    pub(crate) fn forget(&self, old: &Arc<T>) {
        let mut current = self.current.lock();
        let is_old = |found: &Arc<T>| Arc::ptr_eq(found, old);
        if self.value.load().as_ref().is_some_and(is_old) {
            self.value.store(None);
        }
        if current.as_ref().and_then(Shared::finished).as_ref().is_some_and(is_old) {
            *current = None;
        }
    }

    /// Empties the slot.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        let mut current = self.current.lock();
        let finished = current.take().as_ref().and_then(Shared::finished);
        self.value.swap(None).or(finished)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_callers_share_one_start_and_a_failure_is_tried_again() {
        let slot = Slot::<usize>::default();
        let starts = Arc::new(AtomicUsize::new(0));
        let work = || {
            let starts = Arc::clone(&starts);
            async move {
                tokio::task::yield_now().await;
                match starts.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(CallFailure::NoResponse),
                    start => Ok(Arc::new(start)),
                }
            }
        };
        let runtime = Handle::current;
        let (one, two) = tokio::join!(slot.get(runtime, work), slot.get(runtime, work));
        assert!(one.is_err() && two.is_err());
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        let first = slot.get(runtime, work).await.unwrap();
        assert_eq!(*slot.get(runtime, work).await.unwrap(), 1);
        slot.forget(&Arc::new(1));
        assert!(slot.peek().is_some());
        slot.forget(&first);
        assert!(slot.peek().is_none());
    }
}
