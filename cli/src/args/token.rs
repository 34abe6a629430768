//! Arguments of `lockgate token`.

use clap::{Subcommand, ValueEnum};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// A new API token; alone on stdout, and never shown again
    Create {
        #[arg(long)]
        name: String,
        /// Whom it stands for [default: you]
        #[arg(long, value_name = "PRINCIPAL")]
        subject: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        role: Role,
        /// Days until it expires; 0: never
        #[arg(long, value_name = "DAYS", default_value_t = 0)]
        expires: u32,
    },
    /// Tokens without their secrets
    List {
        /// Revoked ones too
        #[arg(long)]
        all: bool,
    },
    /// Proxies refuse it within about a second
    Revoke {
        /// Name or id
        name: String,
    },
    /// A signed token from a configured secret, as ContextForge's create_jwt_token; alone on stdout
    CreateJwt {
        #[arg(short, long, default_value = "admin")]
        username: String,
        /// Minutes until it expires; 0: never
        #[arg(short, long, value_name = "MINUTES", default_value_t = 10080)]
        exp: u64,
        /// The value of JWT_SECRET_KEY [default: the configured one]
        #[arg(short, long)]
        secret: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// May list and call tools
    #[default]
    Caller,
    /// May do everything
    Admin,
}
