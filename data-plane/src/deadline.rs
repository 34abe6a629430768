//! Time limits that cost nothing where the work is done at the first look, and little where it is
//! done in time: timers that were not needed stay armed for the next who waits.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep},
};

/// Spare timers that one thread keeps.
const SPARE_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Armed>> = const { RefCell::new(Vec::new()) };
}

/// The time was up before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// `work`, if it is done before `end`; the clock is asked only if the work has to wait.
pub(crate) fn before<E, W>(end: E, work: W) -> Before<E, W>
where
    E: FnOnce() -> Instant,
    W: Future,
{
    Before { work, end: Some(end), timer: None }
}

pin_project! {
    /// What [`before`] gives. Written by hand: an `async` function would hold the work twice, as
    /// its argument and as what it waits for, and calls nest several of them.
    pub(crate) struct Before<E, W> {
        #[pin]
        work: W,
        end: Option<E>,
        timer: Option<Timer>,
    }
}

impl<E: FnOnce() -> Instant, W: Future> Future for Before<E, W> {
    type Output = Result<W::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if let Some(end) = this.end.take() {
            *this.timer = Some(Timer::until(end()));
        }
        match this.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    }
}

/// A timer of tokio's and the runtime that it belongs to.
struct Armed {
    runtime: Id,
    /// Boxed: a timer is aligned to 128 bytes, and so would be every future around it.
    sleep: Pin<Box<Sleep>>,
}

/// Ready at its end. Arming a timer takes a lock that all threads share, and most work is done
/// long before: so a timer that was armed for an earlier moment is taken as it is, and armed anew
/// only if that moment comes.
struct Timer {
    end: Instant,
    /// Always there until it is dropped.
    armed: Option<Armed>,
}

impl Timer {
    fn until(end: Instant) -> Self {
        let runtime = Handle::current().id();
        let spare = SPARE.with_borrow_mut(Vec::pop).filter(|spare| spare.runtime == runtime);
        let mut armed = spare
            .unwrap_or_else(|| Armed { runtime, sleep: Box::pin(tokio::time::sleep_until(end)) });
        if armed.sleep.deadline() > end || armed.sleep.is_elapsed() {
            armed.sleep.as_mut().reset(end);
        }
        Self { end, armed: Some(armed) }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.end;
        let Some(Armed { sleep, .. }) = &mut self.armed else { return Poll::Ready(()) };
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(armed) = self.armed.take() else { return };
        // Without the thread's store, or with a full one, the timer ends here.
        let put_back = |spare: &RefCell<Vec<Armed>>| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(armed);
            }
        };
        SPARE.try_with(put_back).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_is_done_needs_no_clock_and_other_work_ends_in_time() {
        let done = before(|| unreachable!("no clock is needed"), std::future::ready(1)).await;
        assert_eq!(done, Ok(1));
        let start = Instant::now();
        let end = || start + Duration::from_secs(2);
        let slow = tokio::time::sleep(Duration::from_secs(3));
        assert_eq!(before(end, slow).await, Err(Elapsed));
        assert_eq!(start.elapsed().as_secs(), 2);
        let quick = tokio::time::sleep(Duration::from_secs(1));
        assert_eq!(before(|| Instant::now() + Duration::from_secs(2), quick).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_timer_serves_later_and_earlier_ends() {
        let never = std::future::pending::<()>;
        let soon = || tokio::time::sleep(Duration::from_millis(1));
        let spare = || SPARE.with_borrow(Vec::len);
        let wait = |seconds| move || Instant::now() + Duration::from_secs(seconds);
        assert_eq!(before(wait(10), soon()).await, Ok(()));
        assert_eq!(spare(), 1);
        for seconds in [60, 5, 20] {
            let start = Instant::now();
            assert_eq!(before(wait(seconds), never()).await, Err(Elapsed));
            assert_eq!(start.elapsed().as_secs(), seconds);
            assert_eq!(before(wait(seconds), soon()).await, Ok(()));
            assert_eq!(spare(), 1);
        }
    }

    #[test]
    fn a_timer_of_another_runtime_is_not_taken() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async {
                let wait = || Instant::now() + Duration::from_mins(1);
                assert_eq!(before(wait, tokio::task::yield_now()).await, Ok(()));
            });
        }
    }
}
