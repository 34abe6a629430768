//! The methods we know, and in which era each is served.

use proto::Era;

use super::extension;

/// A method of a request or notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Initialize,
    Ping,
    Discover,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    ResourceTemplatesList,
    ResourcesRead,
    Complete,
    SetLevel,
    Subscribe,
    Unsubscribe,
    TasksGet,
    TasksResult,
    TasksList,
    TasksUpdate,
    TasksCancel,
    Listen,
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
            Self::PromptsList => "prompts/list",
            Self::PromptsGet => "prompts/get",
            Self::ResourcesList => "resources/list",
            Self::ResourceTemplatesList => "resources/templates/list",
            Self::ResourcesRead => "resources/read",
            Self::Complete => "completion/complete",
            Self::SetLevel => "logging/setLevel",
            Self::Subscribe => "resources/subscribe",
            Self::Unsubscribe => "resources/unsubscribe",
            Self::TasksGet => "tasks/get",
            Self::TasksResult => "tasks/result",
            Self::TasksList => "tasks/list",
            Self::TasksUpdate => "tasks/update",
            Self::TasksCancel => "tasks/cancel",
            Self::Listen => "subscriptions/listen",
            Self::Initialized => "notifications/initialized",
            Self::Cancelled => "notifications/cancelled",
            Self::Progress => "notifications/progress",
            Self::LogMessage => "notifications/message",
            Self::ToolsListChanged => "notifications/tools/list_changed",
            Self::Unknown(name) => name,
        }
    }

    /// Whether it asks for a list of what there is.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            Self::ToolsList | Self::PromptsList | Self::ResourcesList | Self::ResourceTemplatesList
        )
    }

    /// Whether its answer depends on what the caller is shown.
    pub fn is_of_catalog(&self) -> bool {
        self.is_list()
            || matches!(
                self,
                Self::ToolsCall
                    | Self::PromptsGet
                    | Self::ResourcesRead
                    | Self::Complete
                    | Self::Subscribe
                    | Self::Unsubscribe
                    | Self::Listen
            )
    }

    /// Whether a request of this method is answered in `era`; else `-32601`.
    pub fn is_served_in(&self, era: Era) -> bool {
        match self {
            Self::Initialize
            | Self::Ping
            | Self::SetLevel
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::TasksResult
            | Self::TasksList => era == Era::Legacy,
            Self::Discover | Self::Listen | Self::TasksUpdate => era == Era::Modern,
            Self::ToolsList
            | Self::ToolsCall
            | Self::PromptsList
            | Self::PromptsGet
            | Self::ResourcesList
            | Self::ResourceTemplatesList
            | Self::ResourcesRead
            | Self::Complete
            | Self::TasksGet
            | Self::TasksCancel => true,
            Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::LogMessage
            | Self::ToolsListChanged => false,
            // Whether there is somebody for it, the router knows.
            Self::Unknown(name) => extension::may_be_request(name),
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
            "prompts/list" => Self::PromptsList,
            "prompts/get" => Self::PromptsGet,
            "resources/list" => Self::ResourcesList,
            "resources/templates/list" => Self::ResourceTemplatesList,
            "resources/read" => Self::ResourcesRead,
            "completion/complete" => Self::Complete,
            "logging/setLevel" => Self::SetLevel,
            "resources/subscribe" => Self::Subscribe,
            "resources/unsubscribe" => Self::Unsubscribe,
            "tasks/get" => Self::TasksGet,
            "tasks/result" => Self::TasksResult,
            "tasks/list" => Self::TasksList,
            "tasks/update" => Self::TasksUpdate,
            "tasks/cancel" => Self::TasksCancel,
            "subscriptions/listen" => Self::Listen,
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
        for name in [
            "initialize",
            "ping",
            "server/discover",
            "tools/list",
            "tools/call",
            "prompts/list",
            "prompts/get",
            "resources/list",
            "resources/templates/list",
            "resources/read",
            "completion/complete",
            "tasks/get",
            "tasks/result",
            "tasks/list",
            "tasks/update",
            "tasks/cancel",
            "subscriptions/listen",
            "notifications/tools/list_changed",
            "x/y",
        ] {
            assert_eq!(Method::from(name).as_str(), name);
        }
    }

    #[test]
    fn each_era_has_its_own_handshake() {
        assert!(Method::Initialize.is_served_in(Era::Legacy));
        assert!(!Method::Initialize.is_served_in(Era::Modern));
        assert!(!Method::Ping.is_served_in(Era::Modern));
        assert!(!Method::Discover.is_served_in(Era::Legacy));
        assert!(!Method::from("prompts/other").is_served_in(Era::Legacy));
    }
}
