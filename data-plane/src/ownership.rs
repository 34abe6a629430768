//! Which proxy answers a request: plain values in, the proxies to ask in order out.
//!
//! A legacy session belongs to the proxy that answered `initialize`. Every proxy can read the
//! claims in a session's id, so all of them come to the same answer without asking each other.

use std::sync::Arc;

use proto::resource::ProxyResource;
use sha2::{Digest as _, Sha256};

use crate::{
    mcp::{Kind, Message, Method},
    snapshot::table::ToolEntry,
};

/// Proxies that are asked before a session is served where its request arrived.
const TRIES: usize = 3;

/// What a request wants from its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: the configuration answers, or an upstream that keeps no session.
    Nothing,
    /// What only the session's owner holds: upstream sessions, running calls, streams.
    Owner,
}

/// What a message wants. `tool` is the one that it calls, if it calls one that exists.
pub(crate) fn need(message: &Message, tool: Option<&ToolEntry>) -> Need {
    // What is not named here is the owner's: that is never wrong, only one hop longer.
    let is_answered_anywhere = match &message.kind {
        // A REST API asks nothing back, so its answer needs no way to the client but this one.
        // An unknown tool is an error anywhere.
        Kind::Request(request) if request.method == Method::ToolsCall => {
            tool.is_none_or(|tool| tool.upstream_id().is_none())
        }
        Kind::Request(request) => matches!(
            request.method,
            Method::Initialize
                | Method::Ping
                | Method::Discover
                | Method::ToolsList
                | Method::PromptsList
                | Method::ResourcesList
                | Method::ResourceTemplatesList
        ),
        Kind::Notification(notification) => notification.method == Method::Initialized,
        Kind::Response(_) => false,
    };
    if is_answered_anywhere { Need::Nothing } else { Need::Owner }
}

/// The same where upstreams show each session something else: that is the owner's, too.
pub(crate) fn private_need(message: &Message) -> Need {
    match &message.kind {
        Kind::Request(request) if request.method.is_of_catalog() => Need::Owner,
        Kind::Request(_) | Kind::Notification(_) | Kind::Response(_) => need(message, None),
    }
}

/// Who adopts the session of a proxy that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopters {
    Any,
    /// Rather one that runs commands, since the session may need one.
    HostsFirst,
}

/// Whom to ask for a session that `owner` owns, before `own` serves it itself.
///
/// First the owner. Is it gone, then all proxies agree on who adopts the session: the first that
/// answers in an order made of the session's id. Nobody is asked who comes after `own` in it.
pub(crate) fn order<'a>(
    own: &str,
    owner: &str,
    session: &[u8],
    proxies: impl Iterator<Item = &'a Arc<ProxyResource>>,
    adopters: Adopters,
) -> Vec<Arc<ProxyResource>> {
    let rank_of = |proxy: &ProxyResource| {
        let is_last = adopters == Adopters::HostsFirst && !proxy.stdio_host;
        (is_last, rank(session, &proxy.id))
    };
    let proxies: Vec<_> = proxies.collect();
    let itself = proxies.iter().find(|proxy| proxy.id == own);
    let own_rank = itself.map_or((true, rank(session, own)), |proxy| rank_of(proxy));
    let mut ranked: Vec<_> = proxies
        .iter()
        .filter(|proxy| proxy.id != own)
        .map(|proxy| ((proxy.id != owner, rank_of(proxy)), *proxy))
        .filter(|((is_other, rank), _)| !is_other || *rank < own_rank)
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(TRIES).map(|(_, proxy)| Arc::clone(proxy)).collect()
}

/// The proxies that run commands, in the order in which they are asked for what has this key.
pub(crate) fn hosts<'a>(
    key: &[u8],
    proxies: impl Iterator<Item = &'a Arc<ProxyResource>>,
) -> Vec<Arc<ProxyResource>> {
    let mut ranked: Vec<_> = proxies
        .filter(|proxy| proxy.stdio_host)
        .map(|proxy| (rank(key, &proxy.id), proxy))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(TRIES).map(|(_, proxy)| Arc::clone(proxy)).collect()
}

/// A short name of a proxy for URLs, which tells nothing but this proxy from others.
pub(crate) fn tag(proxy_id: &str) -> String {
    format!("{:016x}", rank(b"tag", proxy_id))
}

/// Rendezvous hashing: the same on every proxy, and evenly spread.
fn rank(key: &[u8], proxy_id: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(proxy_id.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mcp::message::parse;

    fn proxies(ids: &[&str]) -> Vec<Arc<ProxyResource>> {
        let proxy = |id: &&str| {
            let peer_address = format!("{id}:4448");
            Arc::new(ProxyResource { id: (*id).to_owned(), peer_address, stdio_host: false })
        };
        ids.iter().map(proxy).collect()
    }

    fn ids(order: &[Arc<ProxyResource>]) -> Vec<&str> {
        order.iter().map(|proxy| proxy.id.as_str()).collect()
    }

    #[test]
    fn the_owner_is_asked_first_and_nobody_after_oneself() {
        let all = proxies(&["a", "b", "c", "d"]);
        for session in 0..50_u8 {
            let key = [session; 16];
            let order = |own: &str| order(own, "a", &key, all.iter(), Adopters::Any);
            for own in ["b", "c", "d"] {
                assert_eq!(order(own).first().unwrap().id, "a");
                assert!(!ids(&order(own)).contains(&own));
            }
        }
    }

    #[test]
    fn all_proxies_agree_on_who_adopts_the_session_of_a_dead_owner() {
        let all = proxies(&["a", "b", "c", "d"]);
        let mut adopters = std::collections::BTreeSet::new();
        for session in 0..50_u8 {
            let key = [session; 16];
            // What each of the living does when `a` does not answer: the first it asks, or itself.
            let adopter = |own: &str| {
                let order = order(own, "a", &key, all.iter(), Adopters::Any);
                order.get(1).map_or_else(|| own.to_owned(), |proxy| proxy.id.clone())
            };
            let first = adopter("b");
            assert_eq!([adopter("c"), adopter("d")], [first.clone(), first.clone()]);
            adopters.insert(first);
        }
        assert_eq!(adopters.len(), 3, "the sessions of a dead proxy are spread");
    }

    #[test]
    fn commands_run_on_hosts_and_spread_over_them() {
        let mut all = proxies(&["a", "b", "c", "d"]);
        for proxy in all.iter_mut().take(3) {
            Arc::make_mut(proxy).stdio_host = true;
        }
        let mut first = std::collections::BTreeSet::new();
        for key in 0..50_u8 {
            let order = hosts(&[key; 16], all.iter());
            assert!(order.len() == 3 && !ids(&order).contains(&"d"));
            first.insert(order.first().unwrap().id.clone());
        }
        assert_eq!(first.len(), 3);
        assert!(hosts(&[1], proxies(&["a"]).iter()).is_empty());
        assert_ne!(tag("a"), tag("b"));
    }

    #[test]
    fn a_host_adopts_before_others_where_commands_are_needed() {
        let mut all = proxies(&["a", "b", "c", "d"]);
        Arc::make_mut(&mut all[3]).stdio_host = true;
        for session in 0..20_u8 {
            let order =
                |own: &str| order(own, "a", &[session; 16], all.iter(), Adopters::HostsFirst);
            for own in ["b", "c"] {
                assert_eq!(ids(&order(own)).get(..2), Some(&["a", "d"][..]));
            }
            assert_eq!(ids(&order("d")), ["a"]);
        }
    }

    #[test]
    fn an_owner_that_is_revoked_or_unknown_is_not_asked() {
        let key = [1; 16];
        let alone = proxies(&["b"]);
        assert!(order("b", "a", &key, alone.iter(), Adopters::Any).is_empty());
        let none = proxies(&[]);
        assert!(order("b", "a", &key, none.iter(), Adopters::Any).is_empty());
    }

    #[test]
    fn what_one_session_alone_is_shown_is_its_owners() {
        let need_of = |body: &str| private_need(&parse(Bytes::from(body.to_owned())).unwrap());
        let request =
            |method: &str| need_of(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#));
        for method in ["tools/list", "tools/call", "resources/templates/list", "logging/setLevel"] {
            assert_eq!(request(method), Need::Owner, "{method}");
        }
        assert_eq!(request("ping"), Need::Nothing);
    }

    #[test]
    fn what_the_configuration_answers_needs_no_owner() {
        let need_of = |body: &str| need(&parse(Bytes::from(body.to_owned())).unwrap(), None);
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no-such"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ] {
            assert_eq!(need_of(body), Need::Nothing, "{body}");
        }
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            assert_eq!(need_of(body), Need::Owner, "{body}");
        }
    }
}
