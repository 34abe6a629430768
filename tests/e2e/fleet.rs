//! Two proxies on one control plane.

use std::time::Duration;

use tests::client::eventually;
use tests::rest_api;
use tests::world::{ControlPlane, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn both_proxies_follow_and_serve_each_others_sessions() -> anyhow::Result<()> {
    let api = rest_api::start().await?;
    let control = ControlPlane::start().await?;
    control.ok(&["create", "tool", "thing", "--url", &api.url("/")]).await?;
    let token = control.ok(&["token", "create", "--name", "mine"]).await?;
    let (one, two) = (control.proxy().await?, control.proxy().await?);
    for proxy in [&one, &two] {
        eventually("it serves", Duration::from_secs(5), || async {
            let mut client = proxy.client("/mcp", &token);
            client.initialize().await?;
            Ok(client.tool_names().await? == ["thing"])
        })
        .await?;
    }
    let listed = control.ok(&["get", "proxies", "-o", "json"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let text = listed.to_string();
    assert_eq!(text.matches("\"id\"").count().max(text.matches("proxy_id").count()), 2, "{text}");

    control.ok(&["create", "tool", "later", "--url", &api.url("/later")]).await?;
    for proxy in [&one, &two] {
        let mut client = proxy.client("/mcp", &token);
        client.initialize().await?;
        eventually("the change arrives", Duration::from_secs(5), || async {
            Ok(client.tool_names().await?.contains(&"later".to_owned()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_works_once_and_only_for_its_control_plane() -> anyhow::Result<()> {
    let (control, other) = (ControlPlane::start().await?, ControlPlane::start().await?);
    let token = control.join_token().await?;
    let first = Proxy::join(control.sync(), &token).await?;
    for (address, token) in
        [(control.sync(), token.clone()), (other.sync(), control.join_token().await?)]
    {
        let refused = Proxy::start(address, &["--join", &token]).await;
        if let Ok(refused) = refused {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let ready = tests::client::http().get(format!("{}/ready", refused.url())).send().await;
            assert!(
                !ready.is_ok_and(|answer| answer.status().is_success()),
                "a token was taken twice"
            );
        }
    }
    drop(first);
    Ok(())
}
