//! Arguments of `lockgate tools`.

use clap::Subcommand;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// Tools that a client sees
    List {
        /// As this virtual server shows them
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// Call one tool and print its result
    Call {
        name: String,
        /// Arguments: a JSON object, or @FILE
        #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
        args: String,
        /// Through this virtual server
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
}
