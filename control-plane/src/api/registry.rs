//! The Registry service.

use proto::{
    Invalid, Permission, invalid::Under as _, tool::ToolDraft, upstream::UpstreamDraft,
    virtual_server::VirtualServerDraft, wire,
};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        authenticate::{caller, caller_who_may},
        mask,
    },
    caller::Caller,
    error::Error,
    registry::{Action, Applied, AppliedObject, Draft, Page, Registry, WriteOptions},
};

pub(crate) struct RegistryApi {
    pub(crate) registry: Registry,
}

type Answer<T> = Result<Response<T>, Status>;

fn writer<T>(request: &Request<T>) -> Result<Caller, Error> {
    caller_who_may(request, Permission::RegistryWrite)
}

fn remembered(request_id: String) -> WriteOptions {
    let request_id = Some(request_id).filter(|id| !id.is_empty());
    WriteOptions { request_id, validate_only: false }
}

/// The object of a request, as a draft; its errors name the field's whole path.
fn draft<W, D>(field: &str, object: Option<W>) -> Result<D, Error>
where
    D: TryFrom<W, Error = Invalid>,
{
    let object = object.ok_or_else(|| Invalid::missing(field))?;
    Ok(D::try_from(object).under(field)?)
}

/// The object of an update: whose it is, its expected version, and itself.
fn named(name: &str, id: &str, version: u64) -> Result<(String, Option<u64>), Error> {
    let key = if name.is_empty() { id } else { name };
    if key.is_empty() {
        return Err(Invalid::missing("name").into());
    }
    Ok((key.to_owned(), expected(version)))
}

fn expected(version: u64) -> Option<u64> {
    Some(version).filter(|version| *version != 0)
}

#[tonic::async_trait]
impl wire::registry_server::Registry for RegistryApi {
    async fn create_upstream(
        &self,
        request: Request<wire::CreateUpstreamRequest>,
    ) -> Answer<wire::Upstream> {
        let caller = writer(&request)?;
        let wire::CreateUpstreamRequest { upstream, request_id, validate_only } =
            request.into_inner();
        let draft = draft("upstream", upstream)?;
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let upstream = self.registry.create_upstream(&caller, draft, options).await?;
        Ok(Response::new(upstream.into()))
    }

    async fn get_upstream(
        &self,
        request: Request<wire::GetUpstreamRequest>,
    ) -> Answer<wire::Upstream> {
        let caller = caller(&request)?;
        let wire::GetUpstreamRequest { name } = request.into_inner();
        Ok(Response::new(self.registry.get_upstream(&caller, &name).await?.into()))
    }

    async fn list_upstreams(
        &self,
        request: Request<wire::ListUpstreamsRequest>,
    ) -> Answer<wire::ListUpstreamsResponse> {
        let caller = caller(&request)?;
        let wire::ListUpstreamsRequest { page_size, page_token } = request.into_inner();
        let page = Page { size: page_size, token: page_token };
        let listed = self.registry.list_upstreams(&caller, page).await?;
        Ok(Response::new(wire::ListUpstreamsResponse {
            upstreams: listed.items.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn update_upstream(
        &self,
        request: Request<wire::UpdateUpstreamRequest>,
    ) -> Answer<wire::Upstream> {
        let caller = writer(&request)?;
        let wire::UpdateUpstreamRequest { upstream, update_mask, request_id, validate_only } =
            request.into_inner();
        let wanted = upstream.ok_or_else(|| Error::from(Invalid::missing("upstream")))?;
        let (name, version) = named(&wanted.name, &wanted.id, wanted.resource_version)?;
        let change = move |current: proto::upstream::Upstream| {
            let merged = mask::upstream(current.into(), wanted, update_mask)?;
            UpstreamDraft::try_from(merged).under("upstream")
        };
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let updated =
            self.registry.update_upstream(&caller, &name, version, change, options).await?;
        Ok(Response::new(updated.into()))
    }

    async fn delete_upstream(
        &self,
        request: Request<wire::DeleteUpstreamRequest>,
    ) -> Answer<wire::DeleteResponse> {
        let caller = caller(&request)?;
        let wire::DeleteUpstreamRequest { name, resource_version, request_id, validate_only } =
            request.into_inner();
        let (version, options) =
            (expected(resource_version), WriteOptions { validate_only, ..remembered(request_id) });
        let revision = self.registry.delete_upstream(&caller, &name, version, options).await?;
        Ok(Response::new(wire::DeleteResponse { revision }))
    }

    async fn refresh_upstream(
        &self,
        request: Request<wire::RefreshUpstreamRequest>,
    ) -> Answer<wire::Upstream> {
        let caller = caller(&request)?;
        let wire::RefreshUpstreamRequest { name } = request.into_inner();
        Ok(Response::new(self.registry.refresh_upstream(&caller, &name).await?.into()))
    }

    async fn create_tool(&self, request: Request<wire::CreateToolRequest>) -> Answer<wire::Tool> {
        let caller = writer(&request)?;
        let wire::CreateToolRequest { tool, request_id, validate_only } = request.into_inner();
        let draft = draft("tool", tool)?;
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let tool = self.registry.create_tool(&caller, draft, options).await?;
        Ok(Response::new(tool.into()))
    }

    async fn get_tool(&self, request: Request<wire::GetToolRequest>) -> Answer<wire::Tool> {
        let caller = caller(&request)?;
        let wire::GetToolRequest { name } = request.into_inner();
        Ok(Response::new(self.registry.get_tool(&caller, &name).await?.into()))
    }

    async fn list_tools(
        &self,
        request: Request<wire::ListToolsRequest>,
    ) -> Answer<wire::ListToolsResponse> {
        let caller = caller(&request)?;
        let wire::ListToolsRequest { page_size, page_token, upstream } = request.into_inner();
        let page = Page { size: page_size, token: page_token };
        let upstream = Some(upstream.as_str()).filter(|upstream| !upstream.is_empty());
        let listed = self.registry.list_tools(&caller, upstream, page).await?;
        Ok(Response::new(wire::ListToolsResponse {
            tools: listed.items.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn update_tool(&self, request: Request<wire::UpdateToolRequest>) -> Answer<wire::Tool> {
        let caller = writer(&request)?;
        let wire::UpdateToolRequest { tool, update_mask, request_id, validate_only } =
            request.into_inner();
        let wanted = tool.ok_or_else(|| Error::from(Invalid::missing("tool")))?;
        let (name, version) = named(&wanted.name, &wanted.id, wanted.resource_version)?;
        let change = move |current: proto::tool::Tool| {
            let merged = mask::tool(current.into(), wanted, update_mask)?;
            ToolDraft::try_from(merged).under("tool")
        };
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let updated = self.registry.update_tool(&caller, &name, version, change, options).await?;
        Ok(Response::new(updated.into()))
    }

    async fn delete_tool(
        &self,
        request: Request<wire::DeleteToolRequest>,
    ) -> Answer<wire::DeleteResponse> {
        let caller = caller(&request)?;
        let wire::DeleteToolRequest { name, resource_version, request_id, validate_only } =
            request.into_inner();
        let (version, options) =
            (expected(resource_version), WriteOptions { validate_only, ..remembered(request_id) });
        let revision = self.registry.delete_tool(&caller, &name, version, options).await?;
        Ok(Response::new(wire::DeleteResponse { revision }))
    }

    async fn list_prompts(
        &self,
        request: Request<wire::ListPromptsRequest>,
    ) -> Answer<wire::ListPromptsResponse> {
        let caller = caller(&request)?;
        let wire::ListPromptsRequest { page_size, page_token, upstream } = request.into_inner();
        let page = Page { size: page_size, token: page_token };
        let upstream = Some(upstream.as_str()).filter(|upstream| !upstream.is_empty());
        let listed = self.registry.list_prompts(&caller, upstream, page).await?;
        Ok(Response::new(wire::ListPromptsResponse {
            prompts: listed.items.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Answer<wire::ListResourcesResponse> {
        let caller = caller(&request)?;
        let wire::ListResourcesRequest { page_size, page_token, upstream } = request.into_inner();
        let page = Page { size: page_size, token: page_token };
        let upstream = Some(upstream.as_str()).filter(|upstream| !upstream.is_empty());
        let listed = self.registry.list_resources(&caller, upstream, page).await?;
        Ok(Response::new(wire::ListResourcesResponse {
            resources: listed.items.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn create_virtual_server(
        &self,
        request: Request<wire::CreateVirtualServerRequest>,
    ) -> Answer<wire::VirtualServer> {
        let caller = writer(&request)?;
        let wire::CreateVirtualServerRequest { virtual_server, request_id, validate_only } =
            request.into_inner();
        let draft = draft("virtual_server", virtual_server)?;
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let server = self.registry.create_virtual_server(&caller, draft, options).await?;
        Ok(Response::new(server.into()))
    }

    async fn get_virtual_server(
        &self,
        request: Request<wire::GetVirtualServerRequest>,
    ) -> Answer<wire::VirtualServer> {
        let caller = caller(&request)?;
        let wire::GetVirtualServerRequest { name } = request.into_inner();
        Ok(Response::new(self.registry.get_virtual_server(&caller, &name).await?.into()))
    }

    async fn list_virtual_servers(
        &self,
        request: Request<wire::ListVirtualServersRequest>,
    ) -> Answer<wire::ListVirtualServersResponse> {
        let caller = caller(&request)?;
        let wire::ListVirtualServersRequest { page_size, page_token } = request.into_inner();
        let page = Page { size: page_size, token: page_token };
        let listed = self.registry.list_virtual_servers(&caller, page).await?;
        Ok(Response::new(wire::ListVirtualServersResponse {
            virtual_servers: listed.items.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
            revision: listed.revision,
        }))
    }

    async fn update_virtual_server(
        &self,
        request: Request<wire::UpdateVirtualServerRequest>,
    ) -> Answer<wire::VirtualServer> {
        let caller = writer(&request)?;
        let wire::UpdateVirtualServerRequest {
            virtual_server,
            update_mask,
            request_id,
            validate_only,
        } = request.into_inner();
        let wanted =
            virtual_server.ok_or_else(|| Error::from(Invalid::missing("virtual_server")))?;
        let (name, version) = named(&wanted.name, &wanted.id, wanted.resource_version)?;
        let change = move |current: proto::virtual_server::VirtualServer| {
            let merged = mask::virtual_server(current.into(), wanted, update_mask)?;
            VirtualServerDraft::try_from(merged).under("virtual_server")
        };
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let updated =
            self.registry.update_virtual_server(&caller, &name, version, change, options).await?;
        Ok(Response::new(updated.into()))
    }

    async fn delete_virtual_server(
        &self,
        request: Request<wire::DeleteVirtualServerRequest>,
    ) -> Answer<wire::DeleteResponse> {
        let caller = caller(&request)?;
        let wire::DeleteVirtualServerRequest { name, resource_version, request_id, validate_only } =
            request.into_inner();
        let (version, options) =
            (expected(resource_version), WriteOptions { validate_only, ..remembered(request_id) });
        let revision =
            self.registry.delete_virtual_server(&caller, &name, version, options).await?;
        Ok(Response::new(wire::DeleteResponse { revision }))
    }

    async fn apply(&self, request: Request<wire::ApplyRequest>) -> Answer<wire::ApplyResponse> {
        let caller = writer(&request)?;
        let wire::ApplyRequest { objects, validate_only, request_id } = request.into_inner();
        let drafts = objects.into_iter().enumerate().map(|(index, object)| {
            object_draft(object)
                .map_err(|(what, invalid)| invalid.under(&format!("objects[{index}]{what}")))
        });
        let drafts = drafts.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
        let options = WriteOptions { validate_only, ..remembered(request_id) };
        let applied = self.registry.apply(&caller, drafts, options).await?;
        Ok(Response::new(applied_answer(applied)))
    }
}

fn applied_answer(applied: Applied) -> wire::ApplyResponse {
    let Applied { objects, revision } = applied;
    let objects = objects.into_iter().map(|AppliedObject { kind, name, action }| {
        let action = match action {
            Action::Created => wire::ApplyAction::Created,
            Action::Updated => wire::ApplyAction::Updated,
            Action::Unchanged => wire::ApplyAction::Unchanged,
        };
        wire::AppliedObject { kind, name, action: action.into() }
    });
    wire::ApplyResponse { objects: objects.collect(), revision }
}

/// One object of an `apply`; on error with what to call it: ` (upstream `time`)`.
fn object_draft(object: wire::Object) -> Result<Draft, (String, Invalid)> {
    use wire::object::Kind;
    let wire::Object { kind } = object;
    let called = |kind: &str, name: &str| format!(" ({kind} `{name}`)");
    match kind {
        None => Err((String::new(), Invalid::new("", "is neither upstream, tool nor server"))),
        Some(Kind::Upstream(upstream)) => {
            let what = called("upstream", &upstream.name);
            upstream.try_into().map(Draft::Upstream).map_err(|invalid| (what, invalid))
        }
        Some(Kind::Tool(tool)) => {
            let what = called("tool", &tool.name);
            tool.try_into().map(Draft::Tool).map_err(|invalid| (what, invalid))
        }
        Some(Kind::VirtualServer(server)) => {
            let what = called("server", &server.name);
            server.try_into().map(Draft::VirtualServer).map_err(|invalid| (what, invalid))
        }
    }
}
