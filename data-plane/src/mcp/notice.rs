//! What servers tell clients without being asked (MCP 2025-11-25, notifications of servers).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_has_one_name() {
        for (name, notice) in NAMES {
            assert_eq!(Notice::of(name), Some(notice));
        }
        assert_eq!(Notice::of("notifications/initialized"), None);
    }
}
