//! The authority for proxies: one per database, so that every control plane signs as the same.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;

use crate::{
    seal::{SealError, Sealer},
    store::{
        Store, StoreError,
        authorities::{self, AuthorityRow},
    },
};

/// The one authority that there is.
const ID: &str = "proxies";
/// The name in its certificate.
const NAME: &str = "Lockgate proxies";
/// Certificates are valid a little before they are made, for clocks that lag.
const BACKDATED_MS: i64 = 5 * 60 * 1000;
/// Length of an uncompressed P-256 point, and its first byte.
const POINT_LEN: usize = 65;
const POINT_MARK: u8 = 4;

/// Signs the certificates of proxies.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the stored authority of the proxies {0}: start with the encryption key that it was sealed with"
    )]
    Sealed(#[from] SealError),
    #[error("the stored authority of the proxies is damaged")]
    Damaged,
    #[error("cannot make the authority of the proxies: {0}")]
    Make(#[from] rcgen::Error),
}

/// A public key that somebody else holds the private half of.
pub(crate) struct PublicKey<'a>(&'a [u8]);

impl<'a> PublicKey<'a> {
    /// An uncompressed P-256 point. Whether it lies on the curve shows when it is used.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let is_point = bytes.len() == POINT_LEN && bytes.first() == Some(&POINT_MARK);
        is_point.then_some(Self(bytes))
    }
}

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authority")
    }
}

impl Authority {
    /// Reads the authority of this database, or makes it.
    pub(crate) async fn settle(
        store: &Store,
        sealer: &Sealer,
        now_ms: i64,
    ) -> Result<Self, AuthorityError> {
        // Under the write lock, so that two control planes that start at once make one.
        let mut write = store.begin_write().await?;
        if let Some(row) = authorities::find(write.connection(), ID).await? {
            return Self::open(&row, sealer);
        }
        let key = KeyPair::generate()?;
        let certificate = params().self_signed(&key)?.der().clone();
        let row = AuthorityRow {
            id: ID.to_owned(),
            certificate: hex::encode(&certificate),
            sealed: sealer.seal(&place(), key.serialized_der()),
            create_time_ms: now_ms,
        };
        authorities::insert(write.connection(), &row).await?;
        write.commit().await?;
        Ok(Self { certificate, issuer: Issuer::new(params(), key) })
    }

    fn open(row: &AuthorityRow, sealer: &Sealer) -> Result<Self, AuthorityError> {
        let key = proto::Secret::new(sealer.open(&place(), &row.sealed)?);
        let key =
            KeyPair::try_from(key.expose().as_slice()).map_err(|_| AuthorityError::Damaged)?;
        let certificate = hex::decode(&row.certificate).map_err(|_| AuthorityError::Damaged)?;
        Ok(Self { certificate: certificate.into(), issuer: Issuer::new(params(), key) })
    }

    /// What vouches for every proxy.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for a proxy: for both ends of a connection between proxies, and nothing else.
    pub(crate) fn sign(
        &self,
        proxy_id: &str,
        key: &PublicKey<'_>,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::new(vec![proto::proxy::peer_name(proxy_id)])?;
        params.distinguished_name = named(proxy_id);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since(from_ms - BACKDATED_MS);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since(to_ms);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }
}

fn place() -> String {
    format!("authority/{ID}")
}

/// The same each time, since it is part of what a signature says.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn since(time_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(time_ms).unwrap_or(0))
}
