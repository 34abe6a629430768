//! `control-plane`: registry and identity for proxies elsewhere.

use std::{net::TcpListener, pin::pin};

use control_plane::ControlPlane;
use tokio::sync::watch;

use crate::{
    args::ControlPlaneArgs,
    commands::Context,
    config::{self, Flags, Settings},
    failure::{Exit, Failure},
    listen,
    output::Output,
    roles::{self, signals::Signals},
};

pub(crate) mod start;

/// Where it listens, already bound.
struct Listeners {
    management: Vec<TcpListener>,
    sync: Vec<TcpListener>,
}

/// Runs until a signal or until a part of it fails.
pub(crate) fn run(context: &Context, args: &ControlPlaneArgs) -> Result<(), Failure> {
    let mut flags = Flags::default();
    flags.set_list("listen", &args.listen);
    flags.set_list("sync_listen", &args.sync_listen);
    roles::store_flags(&args.store, &mut flags);
    let settings = config::load(&context.global, flags, &context.environment)?;
    roles::begin(&settings, context.output)?;
    let everywhere = [([0, 0, 0, 0], 4447).into()];
    let sync =
        if settings.sync_listen.is_empty() { &everywhere } else { settings.sync_listen.as_slice() };
    let listeners = Listeners {
        management: listen::bind(&settings.listen, 4445)?,
        sync: listen::bind(sync, 4447)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
    runtime.block_on(serve(&settings, listeners, context.output))
}

async fn serve(settings: &Settings, listeners: Listeners, output: Output) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let control_plane = start::start(settings).await?;
    let announcement = announcement(settings, &control_plane, &listeners);
    let say = || output.say(&announcement);
    let ended = attend(&control_plane, listeners, signals, output, say).await;
    control_plane.shutdown().await;
    ended
}

async fn attend(
    control_plane: &ControlPlane,
    listeners: Listeners,
    mut signals: Signals,
    output: Output,
    announce: impl FnOnce(),
) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(());
    let told = || start::told(stopped.clone());
    let Listeners { management, sync } = listeners;
    let mut all = pin!(async {
        tokio::try_join!(
            control_plane.serve_socket(told()),
            control_plane.serve_management(management, told()),
            control_plane.serve_sync_tls(sync, told()),
        )
    });
    let signal = async {
        announce();
        signals.first().await;
    };
    // What is announced is there: listening begins with the first poll, which comes first.
    let early = tokio::select! {
        biased;
        ended = &mut all => Some(ended),
        () = signal => None,
    };
    signals.second_ends_at_once(output);
    output.say("stopping: proxies go on with what they know");
    drop(stop);
    let ended = match early {
        Some(ended) => ended,
        None => all.await,
    };
    start::ended(ended.map(|_| ()))
}

fn announcement(
    settings: &Settings,
    control_plane: &ControlPlane,
    listeners: &Listeners,
) -> String {
    let urls = |scheme: &str, listeners: &[TcpListener]| {
        let addresses = listen::addresses(listeners);
        let urls = addresses.iter().map(|address| format!("{scheme}://{address}"));
        urls.collect::<Vec<_>>().join("  ")
    };
    let mut lines = vec![
        format!("Lockgate {} control plane", env!("CARGO_PKG_VERSION")),
        format!("  listening on     {}", urls("http", &listeners.management)),
        format!("  proxies join at  {}", urls("https", &listeners.sync)),
        format!("  data             {}", settings.data_dir.display()),
    ];
    lines.extend(start::first_start(settings, control_plane));
    lines.push("  next             lockgate proxy join-token".to_owned());
    lines.join("\n")
}
