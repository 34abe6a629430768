//! Other people's clients through `lockgate up` to other people's servers.
fn main() {}
