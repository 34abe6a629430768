//! What the programs that keep running share: from arguments to a configuration, and their end.

use crate::{
    args::roles::{ProxyArgs, StoreArgs},
    config::{Flags, Settings},
    failure::Failure,
    output::Output,
};

pub(crate) mod signals;

/// Flags of everything that has a store.
pub(crate) fn store_flags(args: &StoreArgs, flags: &mut Flags) {
    flags.set("database_url", args.database_url.as_ref());
    flags.set("strict", args.strict.then_some("true"));
}

/// Flags of everything that is a proxy.
pub(crate) fn proxy_flags(args: &ProxyArgs, flags: &mut Flags) {
    flags.set("allow_stdio", args.allow_stdio);
    flags.set("advertise_address", args.advertise_address.as_ref());
    flags.set_list("peer_listen", &args.peer_listen);
    flags.set("peer_advertise_address", args.peer_advertise_address.as_ref());
    flags.set_list("ops_listen", args.ops_listen.as_slice());
    flags.set_list("allowed_hosts", &args.allowed_hosts);
    flags.set_list("allowed_origins", &args.allowed_origins);
    flags.set_list("trusted_proxies", &args.trusted_proxies);
}

/// Starts logging and says what was odd in the configuration.
pub(crate) fn begin(settings: &Settings, output: Output) -> Result<(), Failure> {
    crate::logging::start(settings)?;
    for notice in &settings.notices {
        output.say(&format!("notice: {notice}"));
    }
    Ok(())
}

/// The innermost facts of an error in one line: `a: b: c`, nothing said twice.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = error.source();
    }
    line.replace('\n', " ")
}
