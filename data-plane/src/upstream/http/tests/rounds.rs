//! Calls of several rounds, and what their streams must not carry.

use super::{eras::modern_server, *};
use crate::upstream::{Limits, testing::limits};

#[tokio::test]
async fn every_round_of_a_call_has_an_id_of_its_own() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen_ids = Arc::clone(&ids);
    let upstream = modern_server(move |seen| {
        let id = seen.member("/id");
        seen_ids.lock().push(id.to_string());
        let result = match seen.member("/params/requestState").as_str() {
            None => r#""resultType":"input_required","requestState":"s""#,
            Some(_) => r#""resultType":"complete","content":[]"#,
        };
        json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{result}}}}}"#))
    });
    let proxy = Proxy::limited(
        vec![upstream.await],
        Vec::new(),
        Limits { call_timeout: Duration::from_secs(9), ..limits() },
    );
    // Ours are small numbers too.
    for id in 1..=4 {
        let heard = proxy.run(legacy_call(&id.to_string(), "{}")).await;
        let expected =
            format!(r#"response {{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
        assert_eq!(heard, [expected]);
        let mut rounds = std::mem::take(&mut *ids.lock());
        assert_eq!((rounds.len(), &*rounds[0]), (2, &*id.to_string()));
        rounds.dedup();
        assert_eq!(rounds.len(), 2, "{rounds:?}");
    }
}

#[tokio::test]
async fn the_state_of_an_earlier_task_is_not_told_on_another_calls_stream() {
    let status = r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"raw","status":"working"}}"#;
    let upstream = legacy_server(Log::default(), move |seen| {
        sse(format!("data: {status}\n\ndata: {}\n\n", result(seen, "done")))
    });
    let heard = Proxy::new(upstream.await).run(legacy_call("1", "{}")).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
}
