//! A session that begins in the place of a lost one, whatever becomes of the call that found out.

use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::upstream::testing::streamed;

#[tokio::test]
async fn a_new_session_begins_although_the_call_that_needs_it_is_cancelled() {
    let (events, stream) = mpsc::channel(9);
    let stream = StdMutex::new(Some(stream));
    let mut bridged = Bridged::at("2025-11-25", None, move |seen, log| {
        let is_new = seen.header("mcp-session-id") == "s2";
        match seen.member("/method").as_str()? {
            "tools/call" if is_new => {
                Some(json_answer(json!({"jsonrpc": "2.0", "id": 2, "result": {}}).to_string()))
            }
            "tools/call" => Some(answer(404, "", "")),
            "initialize" if count(log, "initialize") > 1 => {
                let stream = stream.lock().unwrap().take()?;
                let stream = streamed(200, "text/event-stream", ReceiverStream::new(stream));
                Some(begun("s2", stream))
            }
            _ => None,
        }
    })
    .await;
    bridged.call().await;
    bridged.heard("initialize", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": 1}}))
        .await;
    bridged.heard("notifications/cancelled", 1).await;
    events.send(format!("data: {}\n\n", hello("2025-11-25")).into()).await.unwrap();
    bridged.heard("notifications/initialized", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "t"}}))
        .await;
    let answered = bridged.message().await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 2, "result": {}}));
    assert_eq!(bridged.count("initialize"), 2, "nobody began a third session");
}
