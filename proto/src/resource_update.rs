//! Positions in the history of configuration, and the hash that proves equal content.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{Invalid, proxy::FieldError, wire};

/// Sum modulo 2²⁵⁶ of the SHA-256 of each resource: adding and removing a
/// resource changes it in constant time, in any order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RootHash([u8; 32]);

impl RootHash {
    /// Hash of one resource. The body is hashed as sent, never re-encoded,
    /// since protobuf has no canonical encoding.
    pub fn of(resource: &wire::Resource) -> Self {
        let mut hasher = Sha256::new();
        let wire::Resource { key, body } = resource;
        let wire::ResourceKey { kind, owner, name } = key.clone().unwrap_or_default();
        for part in [kind.as_bytes(), owner.as_bytes(), name.as_bytes(), body] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Adds a resource's hash.
    pub fn add(&mut self, other: Self) {
        let mut carry = 0u16;
        for (mine, theirs) in self.0.iter_mut().rev().zip(other.0.iter().rev()) {
            let sum = u16::from(*mine) + u16::from(*theirs) + carry;
            *mine = sum.to_be_bytes()[1];
            carry = sum >> 8;
        }
    }

    /// Takes a resource's hash away.
    pub fn subtract(&mut self, other: Self) {
        let mut borrow = 0i16;
        for (mine, theirs) in self.0.iter_mut().rev().zip(other.0.iter().rev()) {
            let difference = i16::from(*mine) - i16::from(*theirs) - borrow;
            *mine = difference.rem_euclid(256).to_be_bytes()[1];
            borrow = i16::from(difference < 0);
        }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(6) {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A place in the history of one store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// New with each restored or newly made store: only then may revisions fall.
    pub store_epoch: String,
    pub revision: u64,
    pub root_hash: RootHash,
}

/// What became of an update at a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is what the proxy serves.
    Active,
    /// The old configuration stays, whole.
    Rejected,
    /// The base did not fit: a snapshot is needed.
    Resync,
}

/// A proxy's answer to one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Target of the update.
    pub position: Position,
    pub outcome: Outcome,
    pub errors: Vec<FieldError>,
    pub apply_ms: u32,
}

impl TryFrom<wire::Applied> for Applied {
    type Error = Invalid;

    fn try_from(applied: wire::Applied) -> Result<Self, Invalid> {
        let wire::Applied { position, outcome, errors, apply_ms } = applied;
        let outcome = match wire::Outcome::try_from(outcome).unwrap_or_default() {
            wire::Outcome::Unspecified => return Err(Invalid::new("outcome", "is unknown")),
            wire::Outcome::Active => Outcome::Active,
            wire::Outcome::Rejected => Outcome::Rejected,
            wire::Outcome::Resync => Outcome::Resync,
        };
        let position = position.ok_or_else(|| Invalid::missing("position"))?.into();
        let errors = errors.into_iter().map(Into::into).collect();
        Ok(Self { position, outcome, errors, apply_ms })
    }
}

impl From<Applied> for wire::Applied {
    fn from(applied: Applied) -> Self {
        let Applied { position, outcome, errors, apply_ms } = applied;
        let outcome = match outcome {
            Outcome::Active => wire::Outcome::Active,
            Outcome::Rejected => wire::Outcome::Rejected,
            Outcome::Resync => wire::Outcome::Resync,
        };
        Self {
            position: Some(position.into()),
            outcome: outcome.into(),
            errors: errors.into_iter().map(Into::into).collect(),
            apply_ms,
        }
    }
}

impl From<Position> for wire::Position {
    fn from(position: Position) -> Self {
        let Position { store_epoch, revision, root_hash } = position;
        Self { store_epoch, revision, root_hash: root_hash.0.to_vec() }
    }
}

impl From<wire::Position> for Position {
    fn from(position: wire::Position) -> Self {
        let wire::Position { store_epoch, revision, root_hash } = position;
        // A hash of another length equals nothing, which is what it means.
        let root_hash = RootHash(root_hash.try_into().unwrap_or([0xff; 32]));
        Self { store_epoch, revision, root_hash }
    }
}

impl fmt::Display for wire::ResourceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resource(name: &str, body: &[u8]) -> wire::Resource {
        wire::Resource {
            key: Some(wire::ResourceKey {
                kind: "tool".to_owned(),
                owner: String::new(),
                name: name.to_owned(),
            }),
            body: body.to_vec().into(),
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removal_undoes(bodies in prop::collection::vec(any::<[u8; 8]>(), 1..20)) {
            let hashes: Vec<_> = bodies.iter().enumerate()
                .map(|(index, body)| RootHash::of(&resource(&index.to_string(), body))).collect();
            let mut forward = RootHash::default();
            for hash in &hashes {
                forward.add(*hash);
            }
            let mut backward = RootHash::default();
            for hash in hashes.iter().rev() {
                backward.add(*hash);
            }
            prop_assert_eq!(forward, backward);
            for hash in &hashes {
                forward.subtract(*hash);
            }
            prop_assert_eq!(forward, RootHash::default());
        }
    }

    #[test]
    fn parts_cannot_be_shifted_between_fields() {
        assert_ne!(RootHash::of(&resource("ab", b"c")), RootHash::of(&resource("a", b"bc")));
    }
}
