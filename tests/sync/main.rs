//! The promises of the sync protocol, over both state machines and over the files on disk.
//!
//! Every run prints its seed; `LOCKGATE_SEED=<64 hex digits>` repeats it.

#[cfg(test)]
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
#[cfg(test)]
use rand::RngExt as _;

#[cfg(test)]
mod configuration;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod live;
#[cfg(test)]
mod protocol;

/// A runner with a printed seed.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "repeats a failed run")]
fn runner(cases: u32) -> TestRunner {
    let given = std::env::var("LOCKGATE_SEED").ok();
    let seed = given
        .and_then(|text| proto::token::parse_fingerprint(&text))
        .unwrap_or_else(|| rand::rng().random());
    println!("LOCKGATE_SEED={}", proto::token::fingerprint_text(&seed));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// Seals what the tests save.
#[cfg(test)]
fn key() -> data_plane::snapshot::record::RecordKey {
    data_plane::snapshot::record::RecordKey::new(&[7; 32])
}
