//! The curl lines of the seeds.
fn main() {}
