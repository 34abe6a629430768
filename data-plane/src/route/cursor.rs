//! Cursors of paged lists: sealed, so that clients cannot make their own, and tied to what
//! the list showed when its first page was given.

use crate::{
    mcp::{Capabilities, list::ListKind},
    session::SessionKeys,
    snapshot::table::View,
};

const PURPOSE: &[u8] = b"lockgate cursor v1";

/// A place in a list as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    kind: ListKind,
    fingerprint: u64,
    start: u32,
}

impl Place {
    pub(super) fn new(
        view: &View,
        kind: ListKind,
        capabilities: Capabilities,
        start: usize,
    ) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        Self { kind, fingerprint: view.fingerprint(kind, capabilities), start }
    }

    pub(super) fn start(self) -> usize {
        usize::try_from(self.start).unwrap_or(usize::MAX)
    }

    /// `None`: there is no key to seal with.
    pub(super) fn seal(self, keys: &SessionKeys) -> Option<String> {
        let kind = ListKind::ALL.iter().position(|kind| *kind == self.kind)?;
        let mut plain = vec![u8::try_from(kind).ok()?];
        plain.extend_from_slice(&self.fingerprint.to_be_bytes());
        plain.extend_from_slice(&self.start.to_be_bytes());
        keys.seal_for(PURPOSE, &plain).ok()
    }

    /// `None`: it is not one of ours.
    pub(super) fn open(keys: &SessionKeys, text: &str) -> Option<Self> {
        let plain = keys.open_for(PURPOSE, text).ok()?;
        let (kind, rest) = plain.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind: *ListKind::ALL.get(usize::from(*kind))?,
            fingerprint: u64::from_be_bytes(*fingerprint),
            start: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}
