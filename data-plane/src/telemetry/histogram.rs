//! A histogram that threads fill without meeting.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds in seconds; the last bucket has none.
pub(super) const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0];

/// The same in nanoseconds, for the hot path.
const BOUNDS_NS: [u64; 14] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

const SHARDS: usize = 8;

/// Durations by bucket, spread over shards so that cores do not fight for a cache line.
#[derive(Debug, Default)]
pub(super) struct Histogram([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, duration: Duration) {
        thread_local!(static SHARD: usize = {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            NEXT.fetch_add(1, Relaxed) % SHARDS
        });
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.iter().take_while(|bound| ns > **bound).count();
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        let Some(shard) = self.0.get(shard) else { return };
        if let Some(bucket) = shard.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        shard.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Sum in seconds, and the count of each bucket.
    pub(super) fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let mut counts = [0; BOUNDS.len() + 1];
        let mut sum = Duration::ZERO;
        for shard in &self.0 {
            sum += Duration::from_nanos(shard.sum_ns.load(Relaxed));
            for (count, bucket) in counts.iter_mut().zip(&shard.buckets) {
                *count += bucket.load(Relaxed);
            }
        }
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        (sum.as_secs_f64(), bounds.zip(counts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_land_in_their_bucket_whatever_the_thread() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for ms in [1, 2, 20, 400_000] {
                let histogram = &histogram;
                scope.spawn(move || histogram.record(Duration::from_millis(ms)));
            }
        });
        let (sum, buckets) = histogram.read();
        assert!((sum - 400.023).abs() < 1e-9);
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 1), (0.0025, 1), (0.025, 1), (f64::MAX, 1)]);
    }
}
