//! `lockgate`: everything from one binary.

fn main() {}
