//! The control plane's own certificate: proxies know it by its fingerprint, so
//! no authority has to vouch for it.

use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

use crate::keys::{KeysError, file};

/// The name in the certificate; proxies check the fingerprint, not the name.
pub(crate) const SERVER_NAME: &str = "lockgate-control-plane";

/// A self-signed certificate with its key.
pub(crate) struct Certificate {
    pub(crate) chain: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads `tls-cert.pem` and `tls-key.pem`, or makes them.
    pub(crate) fn load(keys: &Path) -> Result<Self, KeysError> {
        let cert_path = keys.join("tls-cert.pem");
        let key_path = keys.join("tls-key.pem");
        let stored = file::read_private(&cert_path)?.zip(file::read_private(&key_path)?);
        // A crash between the two files leaves one: nobody has seen it yet.
        let (cert, key) = if let Some(stored) = stored {
            stored
        } else {
            let (cert, key) = generate()?;
            file::write_private(&key_path, &key)?;
            file::write_private(&cert_path, &cert)?;
            (cert.into(), key.into())
        };
        let chain = CertificateDer::from_pem_slice(cert.expose().as_bytes())
            .map_err(|_| KeysError::Damaged { path: cert_path })?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|_| KeysError::Damaged { path: key_path })?;
        Ok(Self { chain, key: key.into() })
    }

    /// SHA-256 of the DER form: what join tokens carry.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.chain).into()
    }
}

fn generate() -> Result<(String, String), KeysError> {
    let failed = |error: rcgen::Error| KeysError::Generate(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let names = [SERVER_NAME.to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
