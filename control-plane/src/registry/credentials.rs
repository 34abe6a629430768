//! What a write does to the stored credential of an upstream or a tool.

use proto::{CredentialChange, CredentialSummary, resource::kind};

use super::{new_id, unit::Unit};
use crate::{
    error::Error,
    seal::Sealer,
    store::credentials::{self, SealedCredential},
};

/// The stored credential of an object, if it has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) id: Option<String>,
    pub(super) summary: Option<CredentialSummary>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Planned {
    Keep,
    Put(SealedCredential),
    Drop(String),
}

/// The part of a request's digest that stands for a credential.
pub(super) fn digest_of(sealer: &Sealer, change: &CredentialChange) -> String {
    match change {
        CredentialChange::Keep => "keep".to_owned(),
        CredentialChange::Remove => "remove".to_owned(),
        CredentialChange::Set(credential) => credentials::fingerprint(sealer, credential),
    }
}

/// Decides; setting what is there already changes nothing.
pub(super) fn plan(
    sealer: &Sealer,
    owner: String,
    held: &Held,
    change: &CredentialChange,
) -> Planned {
    match (change, &held.id) {
        (CredentialChange::Keep, _) | (CredentialChange::Remove, None) => Planned::Keep,
        (CredentialChange::Remove, Some(id)) => Planned::Drop(id.clone()),
        (CredentialChange::Set(credential), id) => {
            let id = id.clone().unwrap_or_else(new_id);
            let stored = SealedCredential::seal(sealer, &id, owner, credential);
            if held.summary.as_ref() == Some(&stored.summary) {
                return Planned::Keep;
            }
            Planned::Put(stored)
        }
    }
}

impl Planned {
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Keep => false,
            Self::Put(_) | Self::Drop(_) => true,
        }
    }

    /// What the object holds afterwards. To be called before its row is written.
    pub(super) async fn before(&self, unit: &mut Unit<'_>, held: Held) -> Result<Held, Error> {
        match self {
            Self::Keep => Ok(held),
            Self::Drop(_) => Ok(Held::default()),
            Self::Put(sealed) => {
                credentials::put(unit.write.connection(), sealed).await?;
                unit.write.changed(kind::CREDENTIAL, "", &sealed.id).await?;
                Ok(Held { id: Some(sealed.id.clone()), summary: Some(sealed.summary.clone()) })
            }
        }
    }

    /// Takes away what nothing points to any more. To be called after.
    pub(super) async fn after(&self, unit: &mut Unit<'_>) -> Result<(), Error> {
        if let Self::Drop(id) = self {
            credentials::delete(unit.write.connection(), id).await?;
            unit.write.changed(kind::CREDENTIAL, "", id).await?;
        }
        Ok(())
    }
}
