//! Who this proxy is, kept in its data directory: id, boot epoch, credential.

use std::{fs, io, path::Path};

use proto::{Secret, token};
use serde::{Deserialize, Serialize};

use super::disk::{DiskError, write_whole};

/// Name and number of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyIdentity {
    pub id: String,
    /// +1 at each start: of two processes with one id the higher is served.
    pub boot_epoch: u64,
}

/// What enrolment gave: a credential, and the certificate to present it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) credential: Secret<String>,
    pub(crate) fingerprint: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct StoredEnrolment {
    credential: String,
    fingerprint: String,
}

impl ProxyIdentity {
    /// Reads the identity, counts this start, and saves it; makes one at the first start.
    pub(crate) fn start(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join("proxy.json");
        let saved: Option<Self> = read(&path)?.and_then(|text| serde_json::from_str(&text).ok());
        let identity = match saved {
            Some(Self { id, boot_epoch }) => Self { id, boot_epoch: boot_epoch + 1 },
            None => Self { id: uuid::Uuid::now_v7().to_string(), boot_epoch: 1 },
        };
        write_whole(&path, json(&identity).as_bytes())?;
        Ok(identity)
    }
}

impl Enrolment {
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, DiskError> {
        let stored = read(&directory.join("credential.json"))?;
        Ok(stored.and_then(|text| {
            let StoredEnrolment { credential, fingerprint } = serde_json::from_str(&text).ok()?;
            let fingerprint = token::parse_fingerprint(&fingerprint)?;
            Some(Self { credential: credential.into(), fingerprint })
        }))
    }

    /// Saves it, readable by its owner only.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), DiskError> {
        let stored = StoredEnrolment {
            credential: self.credential.expose().clone(),
            fingerprint: token::fingerprint_text(&self.fingerprint),
        };
        write_whole(&directory.join("credential.json"), json(&stored).as_bytes())
    }
}

/// Plain structs of texts and numbers always have a JSON form.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn read(path: &Path) -> Result<Option<String>, DiskError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DiskError::Io { action: "read", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_each_start_counts() {
        let directory = tempfile::tempdir().unwrap();
        let first = ProxyIdentity::start(directory.path()).unwrap();
        let second = ProxyIdentity::start(directory.path()).unwrap();
        assert_eq!(second, ProxyIdentity { id: first.id, boot_epoch: first.boot_epoch + 1 });
    }

    #[test]
    fn a_credential_is_kept_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let enrolment = Enrolment { credential: "lgp_x".into(), fingerprint: [3; 32] };
        enrolment.save(directory.path()).unwrap();
        assert_eq!(Enrolment::load(directory.path()).unwrap(), Some(enrolment));
        let mode = fs::metadata(directory.path().join("credential.json")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}
