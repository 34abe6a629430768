//! Servers that are odd in ways that must not cost a call.

use super::*;
use crate::upstream::Reply;

#[tokio::test]
async fn a_long_call_may_be_resumed_as_often_as_it_goes_on() {
    let upstream = legacy_server(Log::default(), |seen| {
        let last: u32 = seen.header("last-event-id").parse().unwrap_or(0);
        if last == 150 {
            return sse("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n");
        }
        sse(format!(
            "id: {}\nretry: 1\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"data\":1}}}}\n\n",
            last + 1
        ))
    });
    let events = Proxy::patient(upstream.await).run(legacy_call("1", "{}")).await;
    assert_eq!(events.len(), 151);
}

#[tokio::test]
async fn events_of_other_names_are_no_messages() {
    let upstream = legacy_server(Log::default(), |seen| {
        sse(format!("event: ping\ndata: 1\n\ndata: {}\n\n", result(seen, "done")))
    });
    let events = Proxy::new(upstream.await).run(legacy_call("1", "{}")).await;
    assert!(events.len() == 1 && events[0].contains("done"), "{events:?}");
}

#[tokio::test]
async fn tasks_that_an_upstream_does_not_list_hide_no_others() {
    let upstream = legacy_server(Log::default(), |seen| {
        let id = seen.member("/id");
        json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#))
    });
    let proxy = Proxy::new(upstream.await);
    let (upstreams, table) = (Arc::clone(&proxy.upstreams), Arc::clone(&proxy.table));
    let page = crate::tasks::page_in_time(upstreams, table, legacy_call("1", "{}")).await;
    let Ok(Reply::Response(page)) = page else { panic!("no page") };
    assert_eq!(page.into_bytes(), r#"{"jsonrpc":"2.0","id":1,"result":{"tasks":[]}}"#);
}

#[tokio::test]
async fn a_server_without_a_stream_keeps_its_session_whatever_it_says_to_get() {
    let log = Log::default();
    let heard = Arc::clone(&log);
    let address = serve(move |seen| {
        let method = seen.member("/method");
        let what = method.as_str().unwrap_or(seen.method.as_str()).to_owned();
        heard.lock().push(what.clone());
        let id = seen.member("/id");
        match what.as_str() {
            "initialize" => {
                let mut answer = json(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s"}}}}}}"#
                ));
                answer.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
                answer
            }
            "tools/call" => json(result(&seen, "done")),
            "notifications/initialized" => answer(202, "", ""),
            _ => answer(404, "text/plain", "no such route"),
        }
    })
    .await;
    let proxy = Proxy::new(upstream(http(address)));
    for id in ["1", "2", "3"] {
        let answered = proxy.run(legacy_call(id, "{}")).await;
        assert!(answered[0].contains("done"), "{answered:?}");
    }
    let log = log.lock();
    assert!(log.iter().any(|what| what == "GET"), "{log:?}");
    assert_eq!(log.iter().filter(|what| *what == "initialize").count(), 1, "{log:?}");
}

#[tokio::test]
async fn a_refusal_that_answers_the_call_is_its_answer_whatever_it_speaks_of() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| {
        let (id, about) = (seen.member("/id"), seen.member("/params/arguments/about"));
        let code = if about == "transport" { -32000 } else { -32602 };
        let message = if about == "transport" {
            "Bad Request: No valid session ID provided"
        } else {
            "your session id is not valid"
        };
        let error = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        answer(400, "application/json", format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
    });
    let proxy = Proxy::new(upstream.await);
    let greetings = || log.lock().iter().filter(|seen| seen.contains("initialize")).count();
    let events = proxy.run(legacy_call("1", r#"{"about":"a tool"}"#)).await;
    assert!(events.len() == 1 && events[0].contains("your session id"), "{events:?}");
    let before = greetings();
    // Some servers say with the call's id that they do not know the session.
    let lost = proxy.run(legacy_call("2", r#"{"about":"transport"}"#)).await;
    assert_eq!(lost, ["upstream `up` lost its session twice"]);
    assert!(before < greetings(), "{before}");
}
