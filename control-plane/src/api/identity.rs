//! The Identity service.

use proto::{Permission, Role, wire};
use tonic::{Request, Response, Status};

use crate::{
    api::authenticate::{caller, caller_who_may},
    error::Error,
    identity::{
        Identity,
        tokens::{Revoked, TokenDraft, TokenOptions},
    },
};

pub(crate) struct IdentityApi {
    pub(crate) identity: Identity,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::identity_server::Identity for IdentityApi {
    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Answer<wire::CreateTokenResponse> {
        let caller = caller_who_may(&request, Permission::TokensWrite)?;
        let wire::CreateTokenRequest {
            name,
            subject,
            role: _,
            expire_time_ms,
            request_id,
            validate_only,
        } = request.get_ref().clone();
        let role = Role::try_from(request.get_ref().role()).map_err(Error::from)?;
        let name = name.parse().map_err(Error::from)?;
        let expire_time_ms = Some(expire_time_ms).filter(|time| *time != 0);
        let draft = TokenDraft { name, subject, role, expire_time_ms };
        let options = TokenOptions { request_id: Some(request_id), validate_only };
        let made = self.identity.create_token(&caller, draft, options).await?;
        Ok(Response::new(wire::CreateTokenResponse {
            token: Some(made.token.into()),
            secret: made.secret.expose().clone(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<wire::ListTokensRequest>,
    ) -> Answer<wire::ListTokensResponse> {
        let caller = caller(&request)?;
        let wire::ListTokensRequest { page_size, page_token, include_revoked } =
            request.into_inner();
        let revoked = if include_revoked { Revoked::Included } else { Revoked::Hidden };
        let listed = self.identity.list_tokens(&caller, page_size, &page_token, revoked).await?;
        Ok(Response::new(wire::ListTokensResponse {
            tokens: listed.tokens.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<wire::RevokeTokenRequest>,
    ) -> Answer<wire::RevokeTokenResponse> {
        let caller = caller(&request)?;
        // A repeated revocation changes nothing, whatever its id.
        let wire::RevokeTokenRequest { name, request_id: _ } = request.into_inner();
        let (token, revision) = self.identity.revoke_token(&caller, &name).await?;
        Ok(Response::new(wire::RevokeTokenResponse { token: Some(token.into()), revision }))
    }

    async fn issue_access_token(
        &self,
        request: Request<wire::IssueAccessTokenRequest>,
    ) -> Answer<wire::IssueAccessTokenResponse> {
        let caller = caller(&request)?;
        let wire::IssueAccessTokenRequest { lifetime_seconds } = request.into_inner();
        let (token, expire_time_ms) =
            self.identity.issue_access_token(&caller, lifetime_seconds)?;
        Ok(Response::new(wire::IssueAccessTokenResponse {
            access_token: token.expose().clone(),
            expire_time_ms,
        }))
    }

    async fn get_caller(&self, request: Request<wire::GetCallerRequest>) -> Answer<wire::Caller> {
        let caller = caller(&request)?;
        let wire::GetCallerRequest {} = request.into_inner();
        caller.require(Permission::SelfService)?;
        Ok(Response::new(wire::Caller {
            subject: caller.subject().to_owned(),
            role: wire::Role::from(caller.principal.role).into(),
            authentication: caller.authentication.to_owned(),
        }))
    }
}
