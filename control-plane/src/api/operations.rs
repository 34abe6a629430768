//! The Operations service.

use proto::wire;
use tonic::{Request, Response, Status};

use crate::{api::authenticate::caller, identity::Identity, operations::Operations, peers::Peers};

pub(crate) struct OperationsApi {
    pub(crate) operations: Operations,
    pub(crate) identity: Identity,
    pub(crate) peers: Peers,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::operations_server::Operations for OperationsApi {
    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> Answer<wire::Version> {
        let caller = caller(&request)?;
        let wire::GetVersionRequest {} = request.into_inner();
        Ok(Response::new(self.operations.version(&caller)?))
    }

    async fn get_status(&self, request: Request<wire::GetStatusRequest>) -> Answer<wire::Status> {
        let caller = caller(&request)?;
        let wire::GetStatusRequest {} = request.into_inner();
        Ok(Response::new(self.operations.status(&caller).await?.into()))
    }

    async fn list_proxies(
        &self,
        request: Request<wire::ListProxiesRequest>,
    ) -> Answer<wire::ListProxiesResponse> {
        let caller = caller(&request)?;
        let wire::ListProxiesRequest { page_size, page_token } = request.into_inner();
        let listed = self.operations.list_proxies(&caller, page_size, &page_token).await?;
        Ok(Response::new(wire::ListProxiesResponse {
            proxies: listed.proxies.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<wire::CreateJoinTokenRequest>,
    ) -> Answer<wire::CreateJoinTokenResponse> {
        let caller = caller(&request)?;
        let wire::CreateJoinTokenRequest { lifetime_seconds } = request.into_inner();
        let (token, expire_time_ms) =
            self.identity.create_join_token(&caller, lifetime_seconds).await?;
        Ok(Response::new(wire::CreateJoinTokenResponse {
            join_token: token.expose().clone(),
            expire_time_ms,
        }))
    }

    async fn revoke_proxy(
        &self,
        request: Request<wire::RevokeProxyRequest>,
    ) -> Answer<wire::RevokeProxyResponse> {
        let caller = caller(&request)?;
        let wire::RevokeProxyRequest { id } = request.into_inner();
        let revision = self.peers.revoke(&caller, &id).await?;
        Ok(Response::new(wire::RevokeProxyResponse { revision }))
    }
}
