//! `up`: control plane and proxy in one process, over the same protocol as apart.

use std::{net::SocketAddr, pin::pin, time::Duration};

use control_plane::ControlPlane;
use data_plane::{
    DataPlane,
    config::{Control, Management, Stdio},
    forward::{ForwardedBody, ManagementService},
};
use http::{Request, Response, StatusCode};
use tokio::{runtime::Handle, sync::watch};
use tower::ServiceExt as _;

use crate::{
    args::UpArgs,
    commands::Context,
    config::{self, Flags, Settings},
    control_plane::start as control,
    data_plane::start as proxy,
    failure::{Exit, Failure},
    output::Output,
    roles::{self, signals::Signals},
};

/// The control plane's share of the machine; the proxy has threads of its own.
const CONTROL_THREADS: usize = 2;
/// How long tasks that hold no data may take to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Runs until a signal or until a part of it fails.
pub(crate) fn run(context: &Context, args: &UpArgs) -> Result<(), Failure> {
    let mut flags = Flags::default();
    flags.set_list("listen", &args.listen);
    roles::store_flags(&args.store, &mut flags);
    roles::proxy_flags(&args.proxy, &mut flags);
    let settings = config::load(&context.global, flags, &context.environment)?;
    roles::begin(&settings, context.output)?;
    let listeners = proxy::Listeners::bind(&settings, proxy::PeerListen::Off)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::General, "io", error.to_string()))?;
    let ended = runtime.block_on(serve(&settings, listeners, context.output));
    runtime.shutdown_timeout(LAST_TASKS);
    ended
}

async fn serve(
    settings: &Settings,
    listeners: proxy::Listeners,
    output: Output,
) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let control_plane = control::start(settings).await?;
    let ended = match start_proxy(settings, listeners, &control_plane) {
        Ok(data_plane) => {
            let announcement = announcement(settings, &control_plane, data_plane.addresses());
            let say = || output.say(&announcement);
            attend(&control_plane, data_plane, signals, output, say).await
        }
        Err(failure) => Err(failure),
    };
    control_plane.shutdown().await;
    ended
}

/// Serves the control socket until a signal; the proxy is drained before it ends.
async fn attend(
    control_plane: &ControlPlane,
    data_plane: DataPlane,
    mut signals: Signals,
    output: Output,
    announce: impl FnOnce(),
) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(());
    let mut socket = pin!(control_plane.serve_socket(control::told(stopped)));
    let signal = async {
        announce();
        signals.first().await;
    };
    // What is announced is there: the socket is bound by the first poll, which comes first.
    let early = tokio::select! {
        biased;
        ended = &mut socket => Some(ended),
        () = signal => None,
    };
    signals.second_ends_at_once(output);
    output.say("stopping: calls that run may end");
    // Draining blocks; the control plane goes on meanwhile.
    let drained = tokio::task::spawn_blocking(move || {
        data_plane.stop();
        drop(stop);
    });
    let ended = match early {
        Some(ended) => ended,
        None => socket.await,
    };
    drained.await.map_err(|error| Failure::new(Exit::General, "internal", error.to_string()))?;
    control::ended(ended)
}

fn start_proxy(
    settings: &Settings,
    listeners: proxy::Listeners,
    control_plane: &ControlPlane,
) -> Result<DataPlane, Failure> {
    let control = Control::InProcess(control_plane.local_channel());
    let management = Management::InProcess(management(control_plane));
    let from = proxy::Sources { control, management, stdio: Stdio::Allowed };
    proxy::start(proxy::config(settings, listeners, from)?)
}

/// The management API, run on the control plane's threads whoever asks.
fn management(control_plane: &ControlPlane) -> ManagementService {
    let router = control_plane.management();
    let threads = Handle::current();
    ManagementService::new(tower::service_fn(move |request: Request<ForwardedBody>| {
        let answer = threads.spawn(router.clone().oneshot(request));
        async move {
            Ok(match answer.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                // The control plane is going away, or it panicked on this request.
                Err(_) => unanswered(),
            })
        }
    }))
}

fn unanswered<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// One block that tells what runs where, and what to type next.
fn announcement(
    settings: &Settings,
    control_plane: &ControlPlane,
    addresses: &[SocketAddr],
) -> String {
    let urls = addresses.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>();
    let data_dir = settings.data_dir.display();
    let mut lines = vec![
        format!("Lockgate {}", env!("CARGO_PKG_VERSION")),
        format!("  listening on  {}", urls.join("  ")),
        format!("  MCP           {}/mcp", urls.first().map(String::as_str).unwrap_or_default()),
        format!("  data          {data_dir}"),
    ];
    lines.extend(control::first_start(settings, control_plane));
    lines.push(format!("  next          {}", next_command(settings)));
    lines.join("\n")
}

/// What a newcomer types in a second shell; with `--data-dir` where it is not the usual one.
fn next_command(settings: &Settings) -> String {
    let program = config::program();
    let at = if settings.is_usual_data_dir {
        String::new()
    } else {
        format!(" --data-dir {}", settings.data_dir.display())
    };
    format!(
        "{program}{at} create upstream everything --command npx --arg -y \
         --arg @modelcontextprotocol/server-everything"
    )
}
