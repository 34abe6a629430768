//! What this proxy proves itself with to others: its key and certificate, kept on disk, and the
//! TLS that is made of them.

use std::{fs, io, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::Secret;
use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use serde::{Deserialize, Serialize};

use crate::snapshot::disk::{DiskError, write_whole};

const FILE: &str = "peer.json";

/// A key, its certificate, and the authority that vouches for all proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// PKCS#8.
    pub(crate) key: Secret<Vec<u8>>,
    /// DER, as the next one.
    pub(crate) own: Vec<u8>,
    pub(crate) authority: Vec<u8>,
    pub(crate) issue_time_ms: i64,
    pub(crate) expire_time_ms: i64,
}

/// Why no TLS can be made of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the authority cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

/// Both ends of TLS between proxies.
pub(crate) struct Tls {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    certificate: String,
    authority: String,
    issue_time_ms: i64,
    expire_time_ms: i64,
}

/// A new private key, and its public half as the control plane takes it.
pub(crate) fn new_key() -> Result<(Secret<Vec<u8>>, Vec<u8>), CertificateError> {
    let key = KeyPair::generate()?;
    Ok((Secret::new(key.serialize_der()), key.public_key_raw().to_vec()))
}

impl Certificate {
    /// What was saved; nothing if there is none, or it is damaged.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, DiskError> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Secret::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DiskError::Io { action: "read", path, source }),
        };
        let read = || {
            let Stored { key, certificate, authority, issue_time_ms, expire_time_ms } =
                serde_json::from_str(text.expose()).ok()?;
            let key = Secret::new(STANDARD.decode(key).ok()?);
            let certificate = STANDARD.decode(certificate).ok()?;
            let authority = STANDARD.decode(authority).ok()?;
            Some(Self { key, own: certificate, authority, issue_time_ms, expire_time_ms })
        };
        Ok(read())
    }

    /// Saves it, readable by its owner only.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), DiskError> {
        let Self { key, own, authority, issue_time_ms, expire_time_ms } = self;
        let stored = Stored {
            key: STANDARD.encode(key.expose()),
            certificate: STANDARD.encode(own),
            authority: STANDARD.encode(authority),
            issue_time_ms: *issue_time_ms,
            expire_time_ms: *expire_time_ms,
        };
        // Texts and numbers always have a JSON form.
        let text = Secret::new(serde_json::to_string(&stored).unwrap_or_default());
        write_whole(&directory.join(FILE), text.expose().as_bytes())
    }

    /// When it should be replaced: at half of its life.
    pub(crate) fn renew_time_ms(&self) -> i64 {
        self.issue_time_ms.midpoint(self.expire_time_ms)
    }

    /// TLS 1.3 that takes only proxies of the same authority, on both ends. Nothing is resumed, so
    /// that each connection is judged by what is valid now.
    pub(crate) fn tls(&self) -> Result<Tls, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.clone()))?;
        let roots = Arc::new(roots);
        let chain = vec![CertificateDer::from(self.own.clone())];
        let key = || PrivatePkcs8KeyDer::from(self.key.expose().clone()).into();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key())?;
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls { server: Arc::new(server), client: Arc::new(client) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_its_owner_only_and_renewed_at_half_its_life() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Certificate::load(directory.path()).unwrap(), None);
        let certificate = Certificate {
            key: Secret::new(vec![1]),
            own: vec![2],
            authority: vec![3],
            issue_time_ms: 100,
            expire_time_ms: 200,
        };
        certificate.save(directory.path()).unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(certificate.renew_time_ms(), 150);
        assert_eq!(Certificate::load(directory.path()).unwrap(), Some(certificate));
        fs::write(&path, "{").unwrap();
        assert_eq!(Certificate::load(directory.path()).unwrap(), None);
    }
}
