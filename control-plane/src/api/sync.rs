//! The Sync and Reports services: streams of proxies in, state machines behind them.

mod report;
mod stream;

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use futures_util::Stream;
use proto::wire::{self, reports_server, sync_server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    discovery::Discovery,
    error::Error,
    fleet::Fleet,
    identity::{Identity, ProxyCaller},
    peers::{Certified, Peers},
    snapshot::publish::Publisher,
    tasks::Tasks,
};

/// How long a proxy may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Messages that wait for a proxy that does not read.
const QUEUE: usize = 4;

/// What the streams of proxies work with. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SyncApi {
    pub(crate) identity: Identity,
    pub(crate) publisher: Publisher,
    pub(crate) fleet: Fleet,
    pub(crate) discovery: Discovery,
    pub(crate) peers: Peers,
    pub(crate) tasks: Tasks,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Outbox<T> = mpsc::Sender<Result<T, Status>>;

/// Both services. Requests carry a [`ProxyCaller`], except for `Enroll`.
pub(crate) fn routes(api: SyncApi) -> Router {
    let api = Arc::new(api);
    tonic::service::Routes::new(sync_server::SyncServer::from_arc(Arc::clone(&api)))
        .add_service(
            // A catalog comes in one message.
            reports_server::ReportsServer::from_arc(api)
                .max_decoding_message_size(report::MESSAGE_MAX),
        )
        .into_axum_router()
}

#[tonic::async_trait]
impl sync_server::Sync for SyncApi {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        let wire::EnrollRequest { join_token, proxy_id, advertise_address } = request.into_inner();
        let credential = self.identity.enroll(&join_token, &proxy_id, &advertise_address).await?;
        Ok(Response::new(wire::EnrollResponse { credential: credential.expose().clone() }))
    }

    async fn certify(
        &self,
        request: Request<wire::CertifyRequest>,
    ) -> Result<Response<wire::CertifyResponse>, Status> {
        let caller = proxy_of(&request)?;
        let wire::CertifyRequest { proxy_id, public_key } = request.into_inner();
        is_itself(&caller, &proxy_id)?;
        let Certified { certificate, authority, issue_time_ms, expire_time_ms } =
            self.peers.certify(&proxy_id, &public_key)?;
        Ok(Response::new(wire::CertifyResponse {
            certificate: certificate.to_vec(),
            authority: authority.to_vec(),
            issue_time_ms,
            expire_time_ms,
        }))
    }

    type SyncStream = Answers<wire::ControlMessage>;

    async fn sync(
        &self,
        request: Request<Streaming<wire::ProxyMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let caller = proxy_of(&request)?;
        let (api, inbox) = (self.clone(), request.into_inner());
        Ok(self.answer(move |outbox, stop| stream::serve(api, caller, inbox, outbox, stop)))
    }
}

#[tonic::async_trait]
impl reports_server::Reports for SyncApi {
    type ReportStream = Answers<wire::ReportDirective>;

    async fn report(
        &self,
        request: Request<Streaming<wire::ReportMessage>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let caller = proxy_of(&request)?;
        let (api, inbox) = (self.clone(), request.into_inner());
        Ok(self.answer(move |outbox, stop| report::serve(api, caller, inbox, outbox, stop)))
    }
}

impl SyncApi {
    /// Runs a stream as a task of its own; its last word is the error, if any.
    fn answer<T, F>(
        &self,
        serve: impl FnOnce(Outbox<T>, CancellationToken) -> F,
    ) -> Response<Answers<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (outbox, answers) = mpsc::channel(QUEUE);
        let serving = serve(outbox.clone(), self.tasks.stop());
        self.tasks.detach(async move {
            if let Err(status) = serving.await {
                tracing::info!(%status, "a proxy's stream has ended");
                // Nobody may be left to hear it.
                outbox.send_timeout(Err(status), stream::BEAT).await.ok();
            }
        });
        Response::new(Box::pin(ReceiverStream::new(answers)))
    }
}

fn proxy_of<T>(request: &Request<T>) -> Result<ProxyCaller, Status> {
    let caller = request.extensions().get::<ProxyCaller>().cloned();
    caller.ok_or_else(|| {
        Error::Unauthenticated("present the proxy's credential as a bearer token").into()
    })
}

/// Whether the caller still has the credential that its request came with.
async fn is_trusted(api: &SyncApi, caller: &ProxyCaller) -> Result<bool, Status> {
    Ok(api.peers.is_trusted(caller).await.map_err(Error::from)?)
}

fn revoked() -> Status {
    Status::unauthenticated("the credential is not known, or was revoked")
}

/// A proxy that claims another's id.
fn is_itself(caller: &ProxyCaller, proxy_id: &str) -> Result<(), Status> {
    if caller.is(proxy_id) {
        return Ok(());
    }
    Err(Status::permission_denied("the credential belongs to another proxy: join again"))
}
