//! Keeps the certificate young: a new one at each start and at half the life of the last.

use std::{sync::Arc, time::Duration};

use proto::wire::{self, sync_client::SyncClient};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Peers,
    certificate::{Certificate, CertificateError, new_key},
};
use crate::{
    control::{Backoff, Link, LinkError, told},
    edge::now_ms,
    snapshot::disk::DiskError,
};

/// How long the control plane may take to sign.
const SIGN: Duration = Duration::from_secs(15);
/// Clocks jump: how long to sleep at most before looking again.
const LOOK: Duration = Duration::from_mins(10);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{}", told(.0))]
    Status(#[from] Status),
    #[error("the control plane does not answer")]
    Silent,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("cannot keep the certificate")]
    Disk(#[from] DiskError),
}

/// Renews the certificate until `stop`, through every failure of the control plane.
pub(crate) async fn run(peers: Arc<Peers>, link: Link, stop: CancellationToken) {
    match Certificate::load(link.directory()) {
        Ok(Some(saved)) if saved.expire_time_ms > now_ms() => {
            if let Err(error) = peers.use_certificate(&saved) {
                tracing::warn!(%error, "the saved certificate for other proxies is not used");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "no saved certificate for other proxies"),
    }
    let renewing = async {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            match renew(&peers, &link).await {
                Ok(renew_time_ms) => {
                    backoff = Backoff::default();
                    sleep_until(renew_time_ms).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "no new certificate for other proxies: trying again");
                    if is_refusal(&error) {
                        backoff.hopeless();
                    }
                    tokio::time::sleep(backoff.ended(began.elapsed())).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => (),
        () = renewing => (),
    }
}

/// Fetches a certificate for a new key; gives the time of the next one.
async fn renew(peers: &Peers, link: &Link) -> Result<i64, Refused> {
    let connection = link.connection().await?;
    let (key, public_key) = new_key()?;
    let request = wire::CertifyRequest { proxy_id: link.identity().id.clone(), public_key };
    let mut client = SyncClient::new(connection.channel.clone());
    let answer = timeout(SIGN, client.certify(connection.request(request))).await;
    let answer = answer.map_err(|_| Refused::Silent)??.into_inner();
    let wire::CertifyResponse { certificate, authority, issue_time_ms, expire_time_ms } = answer;
    let new = Certificate { key, own: certificate, authority, issue_time_ms, expire_time_ms };
    peers.use_certificate(&new)?;
    new.save(link.directory())?;
    tracing::info!(expire_time_ms, "new certificate for other proxies");
    Ok(new.renew_time_ms())
}

async fn sleep_until(time_ms: i64) {
    loop {
        let left = u64::try_from(time_ms.saturating_sub(now_ms())).unwrap_or(0);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
    }
}

fn is_refusal(refused: &Refused) -> bool {
    match refused {
        Refused::Status(status) => matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented
        ),
        Refused::Link(error) => {
            matches!(error, LinkError::NotJoined | LinkError::Refused(_) | LinkError::JoinToken(_))
        }
        Refused::Silent | Refused::Certificate(_) | Refused::Disk(_) => false,
    }
}
