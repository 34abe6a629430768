//! The methods we know, and in which era each is served.

use proto::Era;

/// A method of a request or notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Initialize,
    Ping,
    Discover,
    ToolsList,
    ToolsCall,
    Initialized,
    Cancelled,
    Progress,
    LogMessage,
    ToolsListChanged,
    /// Everything else, under its own name.
    Unknown(Box<str>),
}

impl Method {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initialize => "initialize",
            Self::Ping => "ping",
            Self::Discover => "server/discover",
            Self::ToolsList => "tools/list",
            Self::ToolsCall => "tools/call",
            Self::Initialized => "notifications/initialized",
            Self::Cancelled => "notifications/cancelled",
            Self::Progress => "notifications/progress",
            Self::LogMessage => "notifications/message",
            Self::ToolsListChanged => "notifications/tools/list_changed",
            Self::Unknown(name) => name,
        }
    }

    /// Whether a request of this method is answered in `era`; else `-32601`.
    pub fn is_served_in(&self, era: Era) -> bool {
        match self {
            Self::Initialize | Self::Ping => era == Era::Legacy,
            Self::Discover => era == Era::Modern,
            Self::ToolsList | Self::ToolsCall => true,
            Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::LogMessage
            | Self::ToolsListChanged
            | Self::Unknown(_) => false,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        match name {
            "initialize" => Self::Initialize,
            "ping" => Self::Ping,
            "server/discover" => Self::Discover,
            "tools/list" => Self::ToolsList,
            "tools/call" => Self::ToolsCall,
            "notifications/initialized" => Self::Initialized,
            "notifications/cancelled" => Self::Cancelled,
            "notifications/progress" => Self::Progress,
            "notifications/message" => Self::LogMessage,
            "notifications/tools/list_changed" => Self::ToolsListChanged,
            _ => Self::Unknown(name.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive() {
        for name in ["initialize", "ping", "server/discover", "tools/list", "tools/call", "x/y"] {
            assert_eq!(Method::from(name).as_str(), name);
        }
    }

    #[test]
    fn each_era_has_its_own_handshake() {
        assert!(Method::Initialize.is_served_in(Era::Legacy));
        assert!(!Method::Initialize.is_served_in(Era::Modern));
        assert!(!Method::Ping.is_served_in(Era::Modern));
        assert!(!Method::Discover.is_served_in(Era::Legacy));
        assert!(!Method::from("prompts/list").is_served_in(Era::Legacy));
    }
}
