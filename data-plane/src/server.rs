//! The shell: one pingora server in a thread of its own, with our listeners, runtimes and drain.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd as _, IntoRawFd as _},
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::{
    listeners::ListenerConfig,
    protocols::l4::stream::L4BufferSettings,
    server::{Fds, ListenFds, RunArgs, Server, ShutdownWatch, configuration::ServerConf},
    services::{
        ServiceReadyNotifier, ServiceWithDependents, background::GenBackgroundService,
        listening::Service,
    },
};

use crate::{
    background::Background,
    connection::{Door, Doors, Front},
    drain::{Drain, DrainWatch},
    edge::Edge,
    snapshot::disk::DiskError,
};

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the listener cannot be used")]
    Listener(#[source] std::io::Error),
    #[error("no listener was given")]
    NoListener,
    #[error("the data directory cannot be used")]
    DataDir(#[from] DiskError),
    #[error("the proxy's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A running pingora server.
pub(crate) struct Shell {
    pub(crate) drain: Drain,
    thread: thread::JoinHandle<()>,
}

/// What the shell runs.
pub(crate) struct Parts {
    pub(crate) listeners: Listeners,
    pub(crate) edge: Arc<Edge>,
    /// The listeners wait until it says that it is ready.
    pub(crate) background: Arc<Background>,
    /// 0: one per core.
    pub(crate) threads: usize,
}

/// Bound sockets in the form in which pingora takes them over from an older process.
pub(crate) struct Listeners {
    table: Fds,
    doors: Doors,
}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Clients,
    Operators,
    Peers,
}

impl Listeners {
    /// Takes the sockets over; they are closed at the end of the drain.
    pub(crate) fn new(
        sockets: impl IntoIterator<Item = (Vec<TcpListener>, Use)>,
    ) -> Result<Self, StartError> {
        let mut listeners = Self { table: Fds::new(), doors: Doors::default() };
        for (sockets, who) in sockets {
            for socket in sockets {
                let address = socket.local_addr().map_err(StartError::Listener)?;
                socket.set_nonblocking(true).map_err(StartError::Listener)?;
                listeners.table.add(address.to_string(), socket.as_raw_fd());
                // pingora owns and closes the descriptor from here on.
                let _owned_by_pingora = socket.into_raw_fd();
                let door = match who {
                    Use::Operators => Door::Ops,
                    Use::Peers => Door::Peer,
                    Use::Clients if address.ip().is_loopback() => Door::Loopback,
                    Use::Clients => Door::Public,
                };
                listeners.doors.add(address, door);
            }
        }
        if listeners.doors.addresses().is_empty() {
            return Err(StartError::NoListener);
        }
        Ok(listeners)
    }

    /// Addresses of the public listeners, in the order given.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.addresses()
    }
}

impl Shell {
    /// Starts the server; it answers as soon as the background service is ready.
    pub(crate) fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { listeners, edge, background, threads } = parts;
        let drain = edge.drain().clone();
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let conf = ServerConf {
            threads: 1,
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(2),
            ..ServerConf::default()
        };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        let front = Front::new(edge, listeners.doors.clone(), drain.clone());
        let mut inner = Service::new("edge".to_owned(), front);
        for address in listeners.doors.all() {
            // hyper has buffers of its own, sized to what it reads.
            let unbuffered = L4BufferSettings::new(0, 0);
            inner.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(unbuffered));
        }
        let followed = GenBackgroundService::new("config".to_owned(), Arc::clone(&background));
        let followed = server.add_service(followed);
        let edge_service = server.add_service(PreBound {
            inner,
            listeners: Arc::new(Mutex::new(listeners.table)),
            closing: drain.closing(),
            threads,
        });
        edge_service.add_dependency(&followed);
        let watch = DrainWatch {
            drain: drain.clone(),
            finish: move || {
                let background = Arc::clone(&background);
                async move { background.finish().await }
            },
        };
        let thread = thread::Builder::new()
            .name("pingora".to_owned())
            .spawn(move || server.run(RunArgs { shutdown_signal: Box::new(watch) }))
            .map_err(StartError::Thread)?;
        Ok(Self { drain, thread })
    }

    /// Drains, and returns when the server's threads have ended.
    pub(crate) fn stop(self) {
        self.drain.request();
        if self.thread.join().is_err() {
            tracing::error!("the server's thread panicked");
        }
    }
}

/// A listening service on sockets that we bound, which stops when our drain says so.
struct PreBound {
    inner: Service<Front>,
    listeners: ListenFds,
    closing: ShutdownWatch,
    threads: usize,
}

#[async_trait]
impl ServiceWithDependents for PreBound {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        ready.notify_ready();
        let listeners = Some(Arc::clone(&self.listeners));
        let closing = self.closing.clone();
        pingora::services::Service::start_service(
            &mut self.inner,
            listeners,
            closing,
            listeners_per_fd,
        )
        .await;
        // The runtime must live until the drain is over.
        drop(shutdown.wait_for(|ended| *ended).await);
    }

    fn name(&self) -> &'static str {
        "edge"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// Lets the process hold as many sockets as the system allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays low");
    }
}
