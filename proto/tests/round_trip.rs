//! Whatever the domain can say survives the wire.
#![expect(clippy::unwrap_used, reason = "strategies are part of the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::{
    EntryKind, Era, RestBinding, RestMethod, Role, Secret, UpstreamName,
    entry::{EntryReference, EntryResource},
    resource::{
        CredentialResource, Key, KeyResource, Resource, TokenResource, ToolResource, ToolTarget,
        UpstreamResource, VirtualServerResource,
    },
    upstream::{CatalogScope, Stdio, StdioMode, Transport},
    virtual_server::Naming,
};

fn text() -> impl Strategy<Value = String> {
    "[ -~äß]{0,12}"
}

fn name() -> impl Strategy<Value = UpstreamName> {
    "[a-z][a-z0-9_.-]{0,20}".prop_map(|name| name.parse().unwrap())
}

fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[A-Z_]{1,8}", text(), 0..3)
}

fn transport() -> impl Strategy<Value = Transport> {
    let url = |scheme: &str, host: &str| format!("{scheme}://{host}/mcp").parse().unwrap();
    let remote = ("[a-z]{1,8}", 0..3_u8).prop_map(move |(host, kind)| match kind {
        0 => Transport::Http { url: url("http", &host) },
        1 => Transport::Sse { url: url("https", &host) },
        _ => Transport::WebSocket { url: url("ws", &host) },
    });
    let mode = prop_oneof![Just(StdioMode::Shared), Just(StdioMode::PerSession)];
    let stdio = ("[a-z]{1,8}", prop::collection::vec(text(), 0..3), variables(), text(), mode)
        .prop_map(|(command, args, env, working_directory, mode)| {
            Transport::Stdio(Stdio { command, args, env, working_directory, mode })
        });
    prop_oneof![remote, stdio]
}

fn upstream() -> impl Strategy<Value = Resource> {
    let era = prop_oneof![Just(None), Just(Some(Era::Legacy)), Just(Some(Era::Modern))];
    let scope = prop_oneof![Just(CatalogScope::Shared), Just(CatalogScope::Principal)];
    (text(), name(), transport(), prop::option::of("[a-z]{1,8}"), scope, era, any::<bool>())
        .prop_map(|(id, name, transport, credential_id, catalog_scope, era, disabled)| {
            Resource::Upstream(UpstreamResource {
                id,
                name,
                transport,
                credential_id,
                catalog_scope,
                era,
                protocol_version: "2025-11-25".to_owned(),
                instructions: String::new(),
                disabled,
                capabilities: r#"{"prompts":{}}"#.to_owned(),
            })
        })
}

fn tool() -> impl Strategy<Value = Resource> {
    let forwarded = ("[a-z0-9]{1,8}", text()).prop_map(|(upstream_id, original_name)| {
        ToolTarget::Upstream { upstream_id, original_name }
    });
    let rest = ("[a-z]{1,8}", prop::option::of("[a-z]{1,8}")).prop_map(|(host, credential_id)| {
        let binding = RestBinding {
            url: format!("http://{host}/x/{{id}}"),
            method: RestMethod::Put,
            headers: BTreeMap::from([("x-a".to_owned(), "b".to_owned())]),
        };
        ToolTarget::Rest { binding, credential_id }
    });
    (text(), "[a-z]{1,8}", prop_oneof![forwarded, rest], prop::collection::vec(text(), 0..3))
        .prop_map(|(id, name, target, aliases)| {
            Resource::Tool(ToolResource {
                id,
                name,
                target,
                definition: r#"{"name":"x","big":12345678901234567890.10}"#.to_owned(),
                needs_client_capabilities: vec![],
                aliases,
            })
        })
}

fn entry() -> impl Strategy<Value = Resource> {
    let kind = prop::sample::select(EntryKind::ALL.to_vec());
    ("[a-z]{1,8}", kind, "[a-z0-9]{1,8}", "[a-z-]{1,8}", ".{1,12}").prop_map(
        |(id, kind, upstream_id, name, original)| {
            Resource::Entry(EntryResource {
                id,
                kind,
                upstream_id,
                name,
                original,
                definition: r#"{"uri":"x","big":12345678901234567890.10}"#.to_owned(),
                needs_client_capabilities: vec!["roots".to_owned()],
            })
        },
    )
}

fn other() -> impl Strategy<Value = Resource> {
    let server = (text(), prop::collection::vec(text(), 0..3), any::<bool>()).prop_map(
        |(id, tool_ids, bare)| {
            Resource::VirtualServer(VirtualServerResource {
                id,
                name: "dev".parse().unwrap(),
                description: String::new(),
                upstream_ids: vec![],
                tool_ids,
                entries: vec![EntryReference {
                    upstream_id: "u".to_owned(),
                    kind: EntryKind::ResourceTemplate,
                    original: "a://{id}".to_owned(),
                }],
                naming: if bare { Naming::Bare } else { Naming::Prefix },
            })
        },
    );
    let token = (text(), any::<[u8; 32]>(), prop::option::of(1i64..)).prop_map(
        |(id, digest, expire_time_ms)| {
            let subject = "admin".to_owned();
            Resource::Token(TokenResource {
                id,
                digest,
                subject,
                role: Role::Admin,
                expire_time_ms,
            })
        },
    );
    let secret = prop_oneof![
        any::<[u8; 32]>().prop_map(|bytes| Key::Session(Secret::new(bytes))),
        any::<Vec<u8>>().prop_map(|bytes| Key::JwtHs256(Secret::new(bytes))),
        any::<[u8; 32]>().prop_map(Key::JwtEdDsa),
        (text(), text()).prop_map(|(user, hash)| Key::Basic { user, hash }),
    ];
    let key = (text(), secret, any::<i64>()).prop_map(|(id, key, create_time_ms)| {
        Resource::Key(KeyResource { id, key, create_time_ms })
    });
    let credential = (text(), variables()).prop_map(|(id, values)| {
        let headers = values.into_iter().map(|(name, value)| (name, value.into())).collect();
        Resource::Credential(CredentialResource { id, headers })
    });
    prop_oneof![server, token, key, credential]
}

proptest! {
    #[test]
    fn every_resource_survives(resource in prop_oneof![upstream(), tool(), entry(), other()]) {
        let wire = resource.clone().encode();
        prop_assert_eq!(Resource::decode(&wire).unwrap(), resource);
    }

    #[test]
    fn no_bytes_make_decoding_panic(body in any::<Vec<u8>>()) {
        drop(Resource::decode(&proto::wire::Resource { key: None, body: body.into() }));
    }
}
