//! What must hold of any message that is translated one way and back.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_request_survives_there_and_back(
        keys in prop::collection::vec("[a-z]{1,3}", 0..4), has_meta in any::<bool>(), id in any::<i64>(),
    ) {
        let mut keys = keys;
        keys.sort();
        keys.dedup();
        let members: Vec<_> = keys.iter().map(|key| format!("\"v.{key}\":[1.0]")).collect();
        let meta = if has_meta { format!("\"_meta\":{{{}}},", members.join(",")) } else { String::new() };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{meta}"name":"echo"}}}}"#);
        let there = request_to_upstream(&message(&body), &MODERN);
        let there = parse(there).unwrap();
        let claimed = there.params().unwrap().meta.protocol_version.as_ref().unwrap().as_str().map(str::to_owned);
        prop_assert_eq!(claimed.as_deref(), Some("2026-07-28"));
        let back = request_to_upstream(&there, &LEGACY);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let mut original = value(body.as_bytes());
        if !has_meta {
            original["params"]["_meta"] = serde_json::json!({});
        }
        prop_assert_eq!(value(&back), original);
    }

    #[test]
    fn ids_and_tokens_are_ours_on_the_way_and_the_client_s_again_at_its_end(
        id in raw_id(), token in raw_id(), ours in any::<u64>(), text in "[ -!#-\\[\\]-~]{0,12}",
    ) {
        let body = format!(
            r#"{{"id":{id},"method":"tools/call","jsonrpc":"2.0","params":{{"arguments":{{"id":{id},"progressToken":{token},"t":"{text}"}},"_meta":{{"progressToken":{token}}},"name":"echo"}}}}"#
        );
        let ours = ours.to_string();
        let raw = Some(ours.as_bytes());
        let terms = Terms { id: raw, progress_token: raw, ..LEGACY };
        let there = message(std::str::from_utf8(&request_to_upstream(&message(&body), &terms)).unwrap());
        let Kind::Request(sent) = &there.kind else { panic!("no request") };
        prop_assert_eq!(Some(there.raw(sent.id)), raw);
        let meta = sent.params.meta.progress_token.map(|span| there.raw(span));
        prop_assert_eq!(meta, raw);
        // What only looks like them is not touched.
        let kept = format!(r#""arguments":{{"id":{id},"progressToken":{token},"t":"{text}"}}"#);
        prop_assert!(there.text().contains(&kept));

        let answer = format!(r#"{{"jsonrpc":"2.0","id":{ours},"result":{{"content":[],"id":{ours},"t":"{text}"}}}}"#);
        let audience = Audience { era: Era::Legacy, id: id.as_bytes(), asked_uri: None, uris: None };
        let back = response_to_client(&message(&answer), &audience);
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"id":{ours},"t":"{text}"}}}}"#);
        prop_assert_eq!(std::str::from_utf8(&back).unwrap(), expected);
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{ours},"progress":1.50,"message":"{text}"}}}}"#
        );
        let told = notification_to_client(&message(&progress), Era::Legacy, Some(token.as_bytes()), None);
        let expected = progress.replacen(&format!(r#""progressToken":{ours}"#), &format!(r#""progressToken":{token}"#), 1);
        prop_assert_eq!(std::str::from_utf8(&told).unwrap(), expected);
    }
}

/// Ids and tokens as clients spell them, which is how they want them back.
fn raw_id() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        "[a-zé0-9 ]{0,12}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""a\u0062\n""#.to_owned()),
    ]
}
