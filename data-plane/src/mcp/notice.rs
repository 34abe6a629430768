//! What servers tell clients without being asked (MCP 2025-11-25, notifications of servers).

use bytes::Bytes;

/// A notification that goes from a server to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Progress,
    Log,
    /// The server takes back a request of its own.
    Cancelled,
    ToolsChanged,
    PromptsChanged,
    ResourcesChanged,
    ResourceUpdated,
    ElicitationComplete,
    /// Of the modern era: a subscription has begun.
    Acknowledged,
    /// The state of a task.
    TaskStatus,
}

const NAMES: [(&str, Notice); 11] = [
    ("notifications/progress", Notice::Progress),
    ("notifications/message", Notice::Log),
    ("notifications/cancelled", Notice::Cancelled),
    ("notifications/tools/list_changed", Notice::ToolsChanged),
    ("notifications/prompts/list_changed", Notice::PromptsChanged),
    ("notifications/resources/list_changed", Notice::ResourcesChanged),
    ("notifications/resources/updated", Notice::ResourceUpdated),
    ("notifications/elicitation/complete", Notice::ElicitationComplete),
    ("notifications/subscriptions/acknowledged", Notice::Acknowledged),
    ("notifications/tasks/status", Notice::TaskStatus),
    ("notifications/tasks", Notice::TaskStatus),
];

impl Notice {
    /// `None`: no client knows this method.
    pub fn of(method: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == method).map(|(_, notice)| *notice)
    }
}

/// Nobody waits any more for the answer to request `id`, raw JSON; either side may say so. On a
/// pipe it is also what a client hears before its subscription ends.
pub fn cancelled(id: &[u8]) -> Bytes {
    let id = String::from_utf8_lossy(id);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::parse;

    #[test]
    fn every_notice_has_one_name() {
        for (name, notice) in NAMES {
            assert_eq!(Notice::of(name), Some(notice));
        }
        assert_eq!(Notice::of("notifications/initialized"), None);
    }

    #[test]
    fn a_cancellation_names_its_request_as_it_was_written() {
        for id in [&b"7"[..], br#""a\u0041""#, b"-1"] {
            let cancelled = parse(cancelled(id)).unwrap();
            let method = cancelled.method().unwrap().as_str();
            assert_eq!(Notice::of(method), Some(Notice::Cancelled));
            let named = cancelled.params().unwrap().request_id.unwrap();
            assert_eq!(cancelled.raw(named), id);
        }
    }
}
