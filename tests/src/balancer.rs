//! A load balancer as simple as they come: each connection goes to the next backend that takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Balances until it is dropped; connections that are open then are cut.
pub struct Balancer {
    address: SocketAddr,
    /// For how long connections are cut.
    cuts: mpsc::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Spreads connections over `backends`, which are `HOST:PORT` or URLs.
    pub async fn start(backends: &[&str]) -> anyhow::Result<Self> {
        let authority = |url: &&str| url.split("://").last().unwrap_or_default().to_owned();
        let backends: Arc<[String]> = backends.iter().map(authority).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (cuts, to_cut) = mpsc::channel(1);
        Ok(Self { address, cuts, task: tokio::spawn(accept(listener, backends, to_cut)) })
    }

    /// Cuts every connection, and for `away` those that come, too.
    pub async fn cut(&self, away: Duration) -> anyhow::Result<()> {
        Ok(self.cuts.send(away).await?)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    backends: Arc<[String]>,
    mut to_cut: mpsc::Receiver<Duration>,
) {
    let next = Arc::new(AtomicUsize::new(0));
    // Dropping the set when this task is aborted cuts every connection.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(away) = to_cut.recv() => {
                connections.shutdown().await;
                refuse(&listener, away).await;
                continue;
            }
        };
        let Ok((mut client, _)) = accepted else { continue };
        let (backends, first) = (Arc::clone(&backends), next.fetch_add(1, Ordering::Relaxed));
        connections.spawn(async move {
            for backend in backends.iter().cycle().skip(first % backends.len()).take(backends.len())
            {
                if let Ok(mut server) = TcpStream::connect(backend).await {
                    // Either side may go away whenever it likes.
                    copy_bidirectional(&mut client, &mut server).await.ok();
                    return;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn refuse(listener: &TcpListener, away: Duration) {
    let refusing = async {
        loop {
            listener.accept().await.ok();
        }
    };
    tokio::time::timeout(away, refusing).await.ok();
}
