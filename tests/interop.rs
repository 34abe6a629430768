//! Other people's clients, through `lockgate up`, to other people's servers.

use tests::interop::{Part, through_gateway};

async fn holds(part: Part) -> anyhow::Result<()> {
    through_gateway(part).await?.judge(part)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_can_do_what_it_can_on_every_transport_and_in_both_eras() -> anyhow::Result<()>
{
    holds(Part::Fixture).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_gives_what_it_has() -> anyhow::Result<()> {
    holds(Part::Others).await
}
