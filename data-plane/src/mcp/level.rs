//! Severities of log messages (RFC 5424, MCP logging).

/// The least severe is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// Which log messages a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A legacy client that has not said: the server decides.
    Any,
    From(Level),
    /// A modern client that did not ask.
    Nothing,
}

impl Wanted {
    /// Whether a message of this level, as its server wrote it, is wanted.
    pub fn takes(self, level: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            // Of an unknown level nobody can tell whether it is severe.
            Self::From(least) => level.and_then(Level::find).is_none_or(|level| level >= least),
            Self::Nothing => false,
        }
    }

    /// The level to ask an upstream for, if any.
    pub fn level(self) -> Option<Level> {
        match self {
            Self::From(level) => Some(level),
            Self::Any | Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_have_names() {
        for pair in Level::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for level in Level::ALL {
            assert_eq!(Level::find(level.as_str()), Some(level));
        }
        assert_eq!(Level::find("loud"), None);
    }

    #[test]
    fn a_client_gets_what_it_wants_and_no_less_severe() {
        assert!(Wanted::From(Level::Warning).takes(Some("error")));
        assert!(!Wanted::From(Level::Warning).takes(Some("info")));
        assert!(Wanted::From(Level::Warning).takes(Some("unheard-of")));
        assert!(Wanted::Any.takes(Some("debug")) && !Wanted::Nothing.takes(Some("alert")));
    }
}
