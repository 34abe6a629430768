//! What a manager does over gRPC: lets proxies join, changes tools, asks who has what.

use anyhow::Context;
use proto::wire::operations_client::OperationsClient;
use proto::wire::registry_client::RegistryClient;
use proto::wire::{self, object};
use tests::world::ControlPlane;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Tools that are created in one transaction.
const BATCH: usize = 500;

type Service = InterceptedService<Channel, Bearer>;

/// A client of a control plane's management, which survives its restarts. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Manager {
    registry: RegistryClient<Service>,
    operations: OperationsClient<Service>,
}

/// Proves each call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    pub(crate) fn new(token: &str) -> anyhow::Result<Self> {
        Ok(Self(format!("Bearer {token}").parse()?))
    }

    /// A request that carries it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.0.clone());
        request
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Manager {
    pub(crate) fn of(control: &ControlPlane, token: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(control.management().to_owned())?.connect_lazy();
        let bearer = Bearer::new(token)?;
        Ok(Self {
            registry: RegistryClient::with_interceptor(channel.clone(), bearer.clone()),
            operations: OperationsClient::with_interceptor(channel, bearer),
        })
    }

    /// What one new proxy joins with.
    pub(crate) async fn join_token(&self) -> anyhow::Result<String> {
        let request = wire::CreateJoinTokenRequest { lifetime_seconds: 0 };
        let answer = self.operations.clone().create_join_token(request).await?;
        Ok(answer.into_inner().join_token)
    }

    /// Creates so many tools.
    pub(crate) async fn fill(&self, tools: usize) -> anyhow::Result<()> {
        let all: Vec<_> = (0..tools).map(|number| tool(&format!("tool_{number}"), "")).collect();
        for batch in all.chunks(BATCH) {
            let objects = batch.iter().cloned();
            let objects =
                objects.map(|tool| wire::Object { kind: Some(object::Kind::Tool(tool)) }).collect();
            let request = wire::ApplyRequest { objects, ..wire::ApplyRequest::default() };
            self.registry.clone().apply(request).await?;
        }
        Ok(())
    }

    /// Changes one of these tools into something else; gives the revision that has it.
    pub(crate) async fn change(&self, number: usize, more: &str) -> anyhow::Result<u64> {
        let tool = tool(&format!("tool_{number}"), more);
        let objects = vec![wire::Object { kind: Some(object::Kind::Tool(tool)) }];
        let request = wire::ApplyRequest { objects, ..wire::ApplyRequest::default() };
        Ok(self.registry.clone().apply(request).await?.into_inner().revision)
    }

    /// Every proxy that is known.
    pub(crate) async fn proxies(&self) -> anyhow::Result<Vec<wire::Proxy>> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = wire::ListProxiesRequest { page_size: 0, page_token };
            let answer = self.operations.clone().list_proxies(request).await?.into_inner();
            all.extend(answer.proxies);
            if answer.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = answer.next_page_token;
        }
    }

    /// The newest revision.
    pub(crate) async fn revision(&self) -> anyhow::Result<u64> {
        let request = wire::ListProxiesRequest { page_size: 1, page_token: String::new() };
        let answer = self.operations.clone().list_proxies(request).await;
        Ok(answer.context("no list of proxies")?.into_inner().revision)
    }
}

/// A tool of some five hundred bytes, as people write them.
fn tool(name: &str, more: &str) -> wire::Tool {
    let rest = wire::RestBinding {
        url: format!("http://127.0.0.1:9/{name}/{{city}}"),
        method: "POST".to_owned(),
        ..wire::RestBinding::default()
    };
    wire::Tool {
        name: name.to_owned(),
        title: "Forecast".to_owned(),
        description: format!(
            "Tells the weather of the next days in a city, with wind and rain.{more}"
        ),
        input_schema: r#"{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"},"unit":{"type":"string","enum":["C","F"]},"days":{"type":"integer","minimum":1,"maximum":14}},"required":["city"]}"#.to_owned(),
        annotations: r#"{"readOnlyHint":true}"#.to_owned(),
        rest: Some(rest),
        ..wire::Tool::default()
    }
}
