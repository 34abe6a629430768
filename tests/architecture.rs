//! Keeps the import rules of README.md true.
