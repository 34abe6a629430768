//! Who is let in where proxies reach each other: only they, by certificate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::proxy::peer_name;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tests::client::eventually;
use tests::world::{ControlPlane, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SOON: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::from_secs(5);

/// Knocks at a proxy's listener for others; gives the first bytes that it says to `hello`.
async fn knock(address: &str, identity: Identity<'_>) -> anyhow::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(identity.tls()?))
        .connect(ServerName::try_from(identity.of.to_owned())?, stream)
        .await?;
    // What every HTTP/2 client says first.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let mut said = vec![0; 64];
    let read = tokio::time::timeout(AT_ONCE, stream.read(&mut said)).await.context("silent")??;
    said.truncate(read);
    Ok(said)
}

/// Who knocks: with which proxy's certificate, trusting what that one would trust.
struct Identity<'a> {
    authority: &'a Proxy,
    certificate: Option<&'a Proxy>,
    /// The name that is expected of the other side.
    of: &'a str,
}

impl Identity<'_> {
    fn tls(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(secret(self.authority, "authority")?))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(proxy) => {
                let chain = vec![CertificateDer::from(secret(proxy, "certificate")?)];
                let key = PrivatePkcs8KeyDer::from(secret(proxy, "key")?);
                builder.with_client_auth_cert(chain, key.into())?
            }
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(tls)
    }
}

/// What a proxy keeps of its certificate.
fn secret(proxy: &Proxy, field: &str) -> anyhow::Result<Vec<u8>> {
    let kept: Value = serde_json::from_slice(&std::fs::read(proxy.certificate())?)?;
    let text = kept.get(field).and_then(Value::as_str).context("no such field")?;
    Ok(STANDARD.decode(text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_of_known_proxies_open_the_door() -> anyhow::Result<()> {
    let (control, foreign) = (ControlPlane::start().await?, ControlPlane::start().await?);
    let (one, two) = (control.proxy().await?, control.proxy().await?);
    let stranger = foreign.proxy().await?;
    let name = peer_name(&one.id()?);
    let as_of = |certificate| Identity { authority: &one, certificate, of: &name };
    eventually("a proxy that is known is let in", SOON, || async {
        let all = [&one, &two, &stranger].iter().all(|proxy| proxy.certificate().exists());
        Ok(all && !knock(one.peers(), as_of(Some(&two))).await?.is_empty())
    })
    .await?;
    for refused in [None, Some(&stranger)] {
        let said = knock(one.peers(), as_of(refused)).await;
        assert!(!said.is_ok_and(|said| !said.is_empty()), "it was let in");
    }
    let wrong = peer_name(&two.id()?);
    let said =
        knock(one.peers(), Identity { authority: &one, certificate: Some(&two), of: &wrong });
    assert!(said.await.is_err(), "it must prove to be who is meant");
    // Without TLS there is nothing at all.
    let plain = tests::client::http().get(format!("http://{}/health", one.peers())).send().await;
    assert!(plain.is_err());
    Ok(())
}
