//! Names, parsed once and valid for ever.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::invalid::Invalid;

/// Longest exposed tool name (clients and model APIs cut at 64).
pub const TOOL_NAME_MAX: usize = 64;
/// Longest name of everything else.
pub const NAME_MAX: usize = 63;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $max:expr, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let allowed: fn(char) -> bool = $allowed;
                let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
                if text.is_empty() {
                    return Err(Invalid::missing("name"));
                }
                if text.len() > $max || !starts_well || !text.chars().all(allowed) {
                    return Err(Invalid::new("name", concat!("must be ", $rule)));
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
}

name!(
    /// Names an upstream and prefixes its tools. Immutable.
    UpstreamName, NAME_MAX, plain,
    "1-63 of A-Z, a-z, 0-9, `_`, `-`, `.`, starting with a letter or digit"
);
name!(
    /// Names a virtual server; part of its URL. Immutable.
    VirtualServerName, NAME_MAX, plain,
    "1-63 of A-Z, a-z, 0-9, `_`, `-`, `.`, starting with a letter or digit"
);
name!(
    /// Names an API token for the people who manage it.
    TokenName, NAME_MAX, plain,
    "1-63 of A-Z, a-z, 0-9, `_`, `-`, `.`, starting with a letter or digit"
);
name!(
    /// The name under which a tool is exposed to clients. Immutable.
    ToolName, TOOL_NAME_MAX, |character| plain(character) || character == '/',
    "1-64 of A-Z, a-z, 0-9, `_`, `-`, `.`, `/`, starting with a letter or digit"
);

name!(
    /// The name under which a prompt is exposed to clients.
    PromptName, TOOL_NAME_MAX, |character| plain(character) || character == '/',
    "1-64 of A-Z, a-z, 0-9, `_`, `-`, `.`, `/`, starting with a letter or digit"
);

impl ToolName {
    /// The name that clients see of an upstream's tool.
    pub fn exposed(upstream: &UpstreamName, original: &str) -> Self {
        Self(exposed(upstream, original))
    }
}

impl PromptName {
    /// The name that clients see of an upstream's prompt.
    pub fn exposed(upstream: &UpstreamName, original: &str) -> Self {
        Self(exposed(upstream, original))
    }
}

/// `{upstream}-{original}` mapped into `[A-Za-z0-9_-]{1,64}`. Where a character
/// had to change or the name was too long, eight hex digits of the original
/// keep two different names different.
fn exposed(upstream: &UpstreamName, original: &str) -> Box<str> {
    let whole = format!("{upstream}-{original}");
    let mapped: String =
        whole.chars().map(|character| if safe(character) { character } else { '_' }).collect();
    if mapped == whole && mapped.len() <= TOOL_NAME_MAX {
        return mapped.into();
    }
    let digest: [u8; 32] = Sha256::digest(whole.as_bytes()).into();
    let [a, b, c, d, ..] = digest;
    let suffix = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
    let kept: String = mapped.chars().take(TOOL_NAME_MAX - suffix.len() - 1).collect();
    format!("{kept}-{suffix}").into()
}

fn safe(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

/// ContextForge's slug: lower case, every run of other characters becomes `-`.
pub fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().filter(|character| *character != '\'') {
        if character.is_ascii_alphanumeric() {
            out.push(character.to_ascii_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn exposed(upstream: &str, original: &str, expected: &str) {
        let upstream: UpstreamName = upstream.parse().unwrap();
        let name = ToolName::exposed(&upstream, original);
        assert_eq!(name.as_str(), expected);
        assert!(name.as_str().len() <= TOOL_NAME_MAX);
        assert!(name.as_str().parse::<ToolName>().is_ok());
    }

    #[test]
    fn plain_names_are_joined_and_kept() {
        exposed("everything", "echo", "everything-echo");
        exposed("time", "get_current_time", "time-get_current_time");
    }

    #[test]
    fn changed_names_get_a_suffix_of_their_own() {
        exposed("git.hub", "list/issues", "git_hub-list_issues-a00974de");
        let upstream: UpstreamName = "a".parse().unwrap();
        assert_ne!(ToolName::exposed(&upstream, "x.y"), ToolName::exposed(&upstream, "x/y"));
    }

    #[test]
    fn long_and_foreign_names_fit() {
        let upstream: UpstreamName = "u".repeat(63).parse().unwrap();
        assert_eq!(ToolName::exposed(&upstream, &"t".repeat(80)).as_str().len(), 64);
        assert_eq!(ToolName::exposed(&upstream, "größe").as_str().len(), 64);
    }

    #[test]
    fn bad_names_say_the_rule() {
        let error = "no spaces".parse::<UpstreamName>().unwrap_err();
        assert!(error.to_string().starts_with("`name` must be 1-63 of"), "{error}");
        assert!("-dash".parse::<VirtualServerName>().is_err());
        assert!("".parse::<TokenName>().is_err());
    }

    #[test]
    fn slugs_are_contextforges() {
        assert_eq!(slug("clock_tool"), "clock-tool");
        assert_eq!(slug("Fast Time's  API!"), "fast-times-api");
    }
}
