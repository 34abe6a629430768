//! The control plane dies, the proxy dies, both: calls go on as far as they can.

use std::time::Duration;

use tests::client::{Client, eventually, http};
use tests::fixture::{self, Era};
use tests::world::{ControlPlane, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_without_the_control_plane_and_it_converges_when_it_is_back()
-> anyhow::Result<()> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let mut control = ControlPlane::start().await?;
    control.ok(&["create", "upstream", "things", "--url", &fixture.url(), "--no-wait"]).await?;
    let mut proxy = control.proxy().await?;
    let token = control.ok(&["token", "create", "--name", "mine"]).await?;
    let revoked = control.ok(&["token", "create", "--name", "gone"]).await?;
    let mut client = proxy.client("/mcp", &token);
    let mut stranger = proxy.client("/mcp", &revoked);
    eventually("the proxy knows the token", Duration::from_secs(5), || {
        let mut stranger = stranger.clone();
        async move { stranger.initialize().await.map(|_| true) }
    })
    .await?;
    stranger.initialize().await?;
    client.initialize().await?;
    eventually("the tools are there", Duration::from_secs(10), || async {
        Ok(client.tool_names().await?.contains(&"things-echo".to_owned()))
    })
    .await?;
    control.ok(&["token", "revoke", "gone"]).await?;
    eventually("the token is refused", Duration::from_secs(10), || async {
        Ok(stranger.legacy("ping", "{}").await?.status == 401)
    })
    .await?;
    // What a proxy has acknowledged it has saved.
    control.settled(&[]).await?;

    control.kill().await;
    assert_eq!(client.call_text("things-echo", r#"{"message":"on"}"#).await?, "on");
    proxy.kill().await;
    proxy.start_again().await?;
    assert_eq!(stranger.legacy("ping", "{}").await?.status, 401, "a restart forgot a revocation");
    assert_eq!(client.call_text("things-echo", r#"{"message":"still"}"#).await?, "still");
    client.initialize().await?;
    assert_eq!(client.call_text("things-echo", r#"{"message":"new"}"#).await?, "new");

    control.start_again().await?;
    control.ok(&["create", "tool", "late", "--url", "http://127.0.0.1:9/"]).await?;
    eventually("the proxy converges", Duration::from_secs(20), || async {
        Ok(client.tool_names().await?.contains(&"late".to_owned()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_stays_deleted_although_its_proxy_dies_before_it_can_tell()
-> anyhow::Result<()> {
    let mut control = ControlPlane::start().await?;
    let (mut first, second) = (control.proxy().await?, control.proxy().await?);
    let token = control.ok(&["token", "create", "--name", "mine"]).await?;
    control.ok(&["token", "create", "--name", "gone"]).await?;
    // What takes a token away is on disk before it is acknowledged, and with it all before it.
    control.ok(&["token", "revoke", "gone"]).await?;
    control.settled(&[]).await?;
    let mut client = first.client("/mcp", &token);
    eventually("the proxy knows the token", Duration::from_secs(5), || {
        let mut client = client.clone();
        async move { client.initialize().await.map(|_| true) }
    })
    .await?;
    client.initialize().await?;
    let mut lasting = client.clone();
    lasting.initialize().await?;
    control.kill().await;
    assert_eq!(client.delete().send().await?.status(), 204);
    first.kill().await;
    first.start_again().await?;
    assert_eq!(client.legacy("ping", "{}").await?.status, 404, "it was forgotten");
    assert_eq!(lasting.legacy("ping", "{}").await?.status, 200, "others go on");

    // And all others hear of it, once there is somebody to tell.
    control.start_again().await?;
    let elsewhere = client.scattered(&format!("{}/mcp", second.url()));
    first.kill().await;
    first.start_again().await?;
    eventually("the other proxy refuses it", Duration::from_secs(30), || async {
        Ok(elsewhere.legacy("tools/list", "{}").await?.status == 404)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_with_neither_disk_nor_control_plane_says_so() -> anyhow::Result<()> {
    let mut control = ControlPlane::start().await?;
    let (sync, token) = (control.sync().to_owned(), control.join_token().await?);
    control.kill().await;
    let proxy = Proxy::start(&sync, &["--join", &token]).await?;
    eventually("it listens", Duration::from_secs(5), || async {
        Ok(http().get(format!("{}/health", proxy.url())).send().await?.status() == 200)
    })
    .await?;
    assert_eq!(http().get(format!("{}/ready", proxy.url())).send().await?.status(), 503);
    let client = Client::new(&format!("{}/mcp", proxy.url()), Some("lg_any"));
    let answer = client.legacy("tools/list", "{}").await?;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");

    control.start_again().await?;
    tests::client::wait_until_ready(proxy.url(), Duration::from_secs(20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_end_lets_a_running_call_finish() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let mut world = tests::world::World::up().await?;
    world.ok(&["create", "upstream", "things", "--url", &fixture.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let caller = client.clone();
    let call = tokio::spawn(async move {
        caller.call_text("things-sleep", r#"{"milliseconds":60000,"tag":"t"}"#).await
    });
    fixture.sleeps().until_begun("t").await;
    let ready = format!("{}/ready", world.url());
    let waking = async {
        eventually("it takes nothing new", Duration::from_secs(20), || async {
            Ok(http().get(&ready).send().await.map_or(true, |it| !it.status().is_success()))
        })
        .await?;
        fixture.sleeps().wake("t");
        anyhow::Ok(call.await??)
    };
    let (code, woken) = tokio::join!(world.stop(), waking);
    assert_eq!(woken?, "was woken");
    assert_eq!(code?, 0);
    // Sessions survive the restart.
    world.start_again().await?;
    assert_eq!(
        client.call_text("things-echo", r#"{"message":"same session"}"#).await?,
        "same session"
    );
    Ok(())
}
