//! Methods of extensions: which may be one, and to which extension it belongs.

/// What a client is told and asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hears {
    /// What the protocol has.
    #[default]
    Core,
    /// What its extensions are for, too.
    Extensions,
}

impl Hears {
    /// Whether a notification of this method, which the protocol does not have, is passed on.
    pub fn takes(self, method: &str) -> bool {
        self == Self::Extensions && may_be_notification(method)
    }

    /// Whether such a request is passed on.
    pub fn answers(self, method: &str) -> bool {
        self == Self::Extensions && may_be_request(method)
    }
}

/// Longest name of a method that is passed on, in bytes.
const NAME_MAX: usize = 256;
/// Where the methods of the protocol itself are, of which we know those that are passed on.
const CORE: [&str; 13] = [
    "completion/",
    "elicitation/",
    "initialize",
    "logging/",
    "ping",
    "prompts/",
    "resources/",
    "roots/",
    "sampling/",
    "server/",
    "subscriptions/",
    "tasks/",
    "tools/",
];
/// The protocol's notifications that have one word.
const CORE_NOTIFICATIONS: [&str; 5] = ["cancelled", "initialized", "message", "progress", "tasks"];
const NOTIFICATION: &str = "notifications/";
/// Of JSON-RPC itself.
const RPC: &str = "rpc.";
/// An extension with a method in a place of the protocol's (SEP-2640).
const SKILLS: (&str, &str) = ("io.modelcontextprotocol/skills", "resources/directory/read");

/// Whether a request of this method may be one of an extension.
pub fn may_be_request(method: &str) -> bool {
    is_plain(method)
        && !method.starts_with(NOTIFICATION)
        && (!is_core(method) || method == SKILLS.1)
}

/// Whether a notification of this method may be one of an extension.
pub fn may_be_notification(method: &str) -> bool {
    let name = method.strip_prefix(NOTIFICATION).unwrap_or(method);
    is_plain(method) && !is_core(name) && !CORE_NOTIFICATIONS.contains(&name)
}

/// A name that can be a header and that nobody else owns.
fn is_plain(method: &str) -> bool {
    let is_short = (1..=NAME_MAX).contains(&method.len());
    is_short && method.bytes().all(|byte| byte.is_ascii_graphic()) && !method.starts_with(RPC)
}

fn is_core(method: &str) -> bool {
    CORE.iter().any(|core| method.starts_with(core))
}

/// Whether only those who declare an extension of it may be sent this method.
pub fn is_declared_only(method: &str) -> bool {
    is_core(method)
}

/// Whether a method belongs to the extension with this identifier: it begins with it, or with
/// the part after its prefix.
pub fn owns(identifier: &str, method: &str) -> bool {
    let name = method.strip_prefix(NOTIFICATION).unwrap_or(method);
    if name == SKILLS.1 {
        return identifier == SKILLS.0;
    }
    let label = identifier.rsplit('/').next().unwrap_or(identifier);
    let begins = |with: &str| {
        let rest = name.strip_prefix(with).filter(|_| !with.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    begins(identifier) || begins(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_owns_is_nobodys_extension() {
        for method in ["skills/list", "com.example/x", "vendor.thing", "resources/directory/read"] {
            assert!(may_be_request(method), "{method}");
        }
        let long = "x".repeat(NAME_MAX + 1);
        for method in [
            "",
            "rpc.discover",
            "notifications/x",
            "tools/describe",
            "tasks/steal",
            "sampling/createMessage",
            "a b",
            "ä",
            "a\u{0}",
            &long,
        ] {
            assert!(!may_be_request(method), "{method}");
        }
        for method in ["notifications/skills/list_changed", "com.example/x", "notifications/x"] {
            assert!(may_be_notification(method), "{method}");
        }
        for method in [
            "notifications/initialized",
            "notifications/tasks",
            "notifications/tasks/status",
            "notifications/elicitation/complete",
            "notifications/roots/list_changed",
            "rpc.x",
        ] {
            assert!(!may_be_notification(method), "{method}");
        }
    }

    #[test]
    fn a_method_begins_with_its_extension() {
        let skills = "io.modelcontextprotocol/skills";
        for (identifier, method) in [
            (skills, "skills/list"),
            (skills, "notifications/skills/list_changed"),
            (skills, "resources/directory/read"),
            ("com.example/search", "com.example/search/query"),
            ("experiment", "experiment"),
        ] {
            assert!(owns(identifier, method), "{identifier} {method}");
        }
        for (identifier, method) in [
            (skills, "skillset/list"),
            (skills, "io.modelcontextprotocol/list"),
            ("resources", "resources/directory/read"),
            ("", "a"),
            ("x/", "a"),
        ] {
            assert!(!owns(identifier, method), "{identifier} {method}");
        }
    }
}
