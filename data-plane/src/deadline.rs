//! Time limits that cost nothing where the work is done at the first look.

use std::{future::Future, pin::pin, task::Poll};

use tokio::time::Instant;

/// The time was up before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// `work`, if it is done before `end`; the clock is asked only if the work has to wait.
pub(crate) async fn before<T>(
    end: impl FnOnce() -> Instant,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    if let Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
        return Ok(done);
    }
    // Boxed: a timer is aligned to 128 bytes, and so would be every future around this one.
    let mut timer = Box::pin(tokio::time::sleep_until(end()));
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = timer.as_mut() => Err(Elapsed),
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
}
