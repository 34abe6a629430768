//! What runs beside the requests: the configuration's stream, reports, and sweeping.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::{
    server::ShutdownWatch,
    services::{ServiceReadyNotifier, background::BackgroundService},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, Control, Source, Stdio},
    control::{Addresses, Link},
    edge::Edge,
    peer::renewal,
    reports::Reports,
    snapshot::stream::Snapshot,
    solo::{self, Solo},
};

/// How often idle sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often it is looked whether those who read streams may still.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Changes of the configuration within this time are told to clients together.
const CHANGES_COALESCED: Duration = Duration::from_millis(250);
/// How long the listeners wait for a first configuration; then they answer 503.
const FIRST_CONFIGURATION: Duration = Duration::from_millis(500);

/// All background work of a proxy.
pub(crate) struct Background {
    edge: Arc<Edge>,
    /// Taken when the work starts.
    follow: Mutex<Option<Follow>>,
    stop: CancellationToken,
    work: TaskTracker,
}

enum Follow {
    ControlPlane(Box<Followed>),
    Upstream(Box<Solo>),
}

/// A control plane, and how this proxy presents itself to it.
struct Followed {
    snapshot: Snapshot,
    control: Control,
    addresses: Addresses,
    stdio: Stdio,
}

impl Background {
    /// `snapshot` is there if the configuration comes from a control plane.
    pub(crate) fn new(config: Config, snapshot: Option<Snapshot>, edge: Arc<Edge>) -> Self {
        let Config { source, advertise_address, peer_address, stdio, .. } = config;
        let follow = match (source, snapshot) {
            (Source::ControlPlane(control), Some(snapshot)) => {
                let addresses = Addresses { advertise: advertise_address, peer: peer_address };
                let followed = Followed { snapshot, control, addresses, stdio };
                Some(Follow::ControlPlane(Box::new(followed)))
            }
            (Source::ControlPlane(_), None) => None,
            (Source::Upstream(solo), _) => Some(Follow::Upstream(solo)),
        };
        Self {
            edge,
            follow: Mutex::new(follow),
            stop: CancellationToken::new(),
            work: TaskTracker::new(),
        }
    }

    /// Ends the work once nothing needs it any more, and waits until it is on disk.
    pub(crate) async fn finish(&self) {
        // Their upstreams shall hear that nobody comes back.
        self.edge.parked().end();
        self.edge.kept().end();
        self.edge.upstreams().shutdown().await;
        self.stop.cancel();
        self.work.close();
        self.work.wait().await;
    }

    async fn follow(&self) {
        let follow = self.follow.lock().take();
        match follow {
            Some(Follow::ControlPlane(followed)) => self.follow_control_plane(*followed).await,
            Some(Follow::Upstream(solo)) => {
                let parts = (&**self.edge.current(), self.edge.upstreams());
                solo::run(*solo, parts, &self.stop).await;
            }
            None => {}
        }
    }

    /// Follows the control plane and reports to it until the end.
    async fn follow_control_plane(&self, followed: Followed) {
        let Followed { snapshot, control, addresses, stdio } = followed;
        let link = snapshot.link(control, addresses);
        let reports = Reports {
            link: link.clone(),
            current: Arc::clone(self.edge.current()),
            upstreams: Arc::clone(self.edge.upstreams()),
            ended: Arc::clone(self.edge.outbox()),
        };
        let certified = self.certified(link.clone());
        let (stop, reports_stop) = (self.stop.clone(), self.stop.clone());
        tokio::join!(snapshot.run(link, stdio, stop), reports.run(reports_stop), certified);
    }

    /// Holds a certificate for other proxies, if this one takes part among them.
    async fn certified(&self, link: Link) {
        if !link.peer_address().is_empty() {
            let peers = Arc::clone(self.edge.peers());
            renewal::run(peers, link, self.stop.clone()).await;
        }
    }

    /// Ends what was deleted elsewhere, whenever the configuration tells of it.
    async fn end_sessions(&self) {
        let mut position = self.edge.current().watch();
        while let Some(Ok(())) = self.stop.run_until_cancelled(position.changed()).await {
            if let Some(table) = self.edge.current().load() {
                self.edge.end_sessions(&table);
            }
        }
    }

    async fn sweep(&self) {
        // Whoever wants sessions to end sooner wants it noticed, too.
        let half = self.edge.timeouts().session_idle / 2;
        let every = half.clamp(Duration::from_millis(10), SWEEP_INTERVAL);
        let mut interval = tokio::time::interval(every);
        while self.stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.edge.sweep();
        }
    }

    /// Ends the streams of clients whose credential is revoked or has expired.
    async fn check_readers(&self) {
        let mut position = self.edge.current().watch();
        loop {
            let changed = tokio::time::timeout(CHECK_INTERVAL, position.changed());
            match self.stop.run_until_cancelled(changed).await {
                None | Some(Ok(Err(_))) => return,
                Some(Ok(Ok(())) | Err(_)) => self.edge.check_readers().await,
            }
        }
    }

    /// Sends listening clients elsewhere once no connection is accepted any more.
    async fn leave(&self) {
        let mut closing = self.edge.drain().closing();
        let closed = closing.wait_for(|closing| *closing);
        if let Some(Ok(_)) = self.stop.run_until_cancelled(closed).await {
            self.edge.sessions().leave();
        }
    }

    /// Tells listening clients which lists changed, once the configuration rests for a moment.
    async fn tell_changes(&self) {
        let mut position = self.edge.current().watch();
        loop {
            let changed = self.stop.run_until_cancelled(position.changed()).await;
            let Some(Ok(())) = changed else { return };
            tokio::time::sleep(CHANGES_COALESCED).await;
            position.mark_unchanged();
            if let Some(table) = self.edge.current().load() {
                self.edge.sessions().announce(&table);
            }
        }
    }

    async fn announce(&self, ready: ServiceReadyNotifier) {
        let mut position = self.edge.current().watch();
        let first = position.wait_for(Option::is_some);
        drop(tokio::time::timeout(FIRST_CONFIGURATION, first).await);
        ready.notify_ready();
    }
}

#[async_trait]
impl BackgroundService for Background {
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let _work = self.work.token();
        self.edge.telemetry().works_here();
        tokio::join!(
            self.follow(),
            self.sweep(),
            self.check_readers(),
            self.leave(),
            self.end_sessions(),
            self.tell_changes(),
            self.announce(ready)
        );
    }
}
