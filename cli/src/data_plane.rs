//! `data-plane`: one proxy that follows a control plane elsewhere.

use data_plane::config::{Control, Management, Stdio};
use http::Uri;

use crate::{
    args::DataPlaneArgs,
    commands::Context,
    config::{self, Flags, Settings},
    failure::{Exit, Failure},
    roles::{self, signals::Signals},
};

pub(crate) mod start;

/// Runs until a signal.
pub(crate) fn run(context: &Context, args: &DataPlaneArgs) -> Result<(), Failure> {
    let mut flags = Flags::default();
    flags.set_list("listen", &args.listen);
    flags.set("control", args.control.as_ref());
    flags.set("join", args.join.as_ref());
    flags.set("management", args.management.as_ref());
    roles::proxy_flags(&args.proxy, &mut flags);
    let settings = config::load(&context.global, flags, &context.environment)?;
    roles::begin(&settings, context.output)?;
    let listeners = start::Listeners::bind(&settings, start::PeerListen::BesideClients)?;
    let (control, management) = (control(&settings)?, management(&settings)?);
    let sources = start::Sources { control, management, stdio: Stdio::Refused };
    let config = start::config(&settings, listeners, sources)?;
    // Only signals are waited for here: the proxy has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
    runtime.block_on(async {
        let mut signals = Signals::watch()?;
        let peer_address = match config.peer_address.as_str() {
            "" => "off".to_owned(),
            address => address.to_owned(),
        };
        let data_plane = start::start(config)?;
        let addresses = data_plane.addresses().iter();
        let urls = addresses.map(|address| format!("http://{address}")).collect::<Vec<_>>();
        let data_dir = settings.data_dir.display();
        context.output.say(&format!(
            "Lockgate {} data plane\n  listening on  {}\n  other proxies {peer_address}\n  \
             data          {data_dir}",
            env!("CARGO_PKG_VERSION"),
            urls.join("  "),
        ));
        signals.first().await;
        signals.second_ends_at_once(context.output);
        context.output.say("stopping: calls that run may end");
        tokio::task::spawn_blocking(move || data_plane.stop())
            .await
            .map_err(|error| Failure::new(Exit::General, "internal", error.to_string()))
    })
}

fn control(settings: &Settings) -> Result<Control, Failure> {
    let address = settings.control.as_deref().ok_or_else(|| {
        Failure::usage("--control is required: the sync address of the control plane")
            .hint("such as https://HOST:4447")
    })?;
    let text =
        if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    Ok(Control::Remote { address: uri("control", &text)?, join_token: settings.join.clone() })
}

fn management(settings: &Settings) -> Result<Management, Failure> {
    match &settings.management {
        None => Ok(Management::Off),
        Some(address) => Ok(Management::Remote(uri("management", address)?)),
    }
}

fn uri(key: &str, text: &str) -> Result<Uri, Failure> {
    let uri = text.parse::<Uri>().ok();
    uri.filter(|uri| uri.scheme().is_some() && uri.authority().is_some())
        .ok_or_else(|| Failure::usage(format!("{key}: `{text}` is not a URL")))
}
