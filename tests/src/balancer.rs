//! A load balancer as simple as they come: each connection goes to the next backend that takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Balances until it is dropped; connections that are open then are cut.
pub struct Balancer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Spreads connections over `backends`, which are `HOST:PORT` or URLs.
    pub async fn start(backends: &[&str]) -> anyhow::Result<Self> {
        let authority = |url: &&str| url.split("://").last().unwrap_or_default().to_owned();
        let backends: Arc<[String]> = backends.iter().map(authority).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, backends)) })
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

async fn accept(listener: TcpListener, backends: Arc<[String]>) {
    let next = Arc::new(AtomicUsize::new(0));
    // Dropping the set when this task is aborted cuts every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
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
