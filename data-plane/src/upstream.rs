//! Calls to upstreams: one object per upstream, alive while its configuration is unchanged.

mod active;
mod audience;
pub(crate) mod batch;
mod call;
mod credential;
mod detected;
mod era;
mod event_reader;
mod event_stream;
mod failure;
pub(crate) mod fetch;
mod followed;
mod health;
mod http;
mod keeper;
mod lister;
mod news;
mod patience;
mod pipe;
mod private;
mod question;
mod relay;
mod rest;
mod room;
mod rounds;
mod sessions;
mod shared;
mod spawner;
pub(crate) mod sse;
mod stderr;
mod stdio;
mod websocket;
pub(crate) mod wishes;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use proto::resource::CredentialResource;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use self::{
    active::Active,
    audience::{Audience, Said, Speaker, Stage},
    era::{INITIALIZED, error_of, request, result_of},
    event_reader::EventReader,
    failure::Step,
    fetch::Bounds,
    health::Health,
    http::{Endpoint, Session, is_of_call, is_session_lost},
    lister::Lister,
    private::{Viewer, Want},
    relay::log_level,
    wishes::Wish,
};
pub use self::{
    call::{Call, Event, Events, Reply, SessionKey},
    failure::{CallError, CallFailure},
    health::UpstreamHealth,
    news::News,
    question::Question,
};
use self::{keeper::Tells, rest::RestTools, spawner::Spawner, wishes::Wishes};
use crate::{
    egress::Egress,
    mcp::{Declared, Level},
    snapshot::table::Table,
};

/// How often idle sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How long goodbyes to upstreams may hold up the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a call may take, and how big its messages may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest silence of an upstream during a call.
    pub call_timeout: Duration,
    /// Longest call, however talkative.
    pub max_call_duration: Duration,
    /// Longest message from an upstream, in bytes.
    pub message_max: usize,
    /// Upstream sessions without a call for this long are ended.
    pub session_idle: Duration,
    /// Processes that all upstreams together may have at a time.
    pub children: usize,
    /// Processes that one upstream may have at a time.
    pub children_per_upstream: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_mins(2),
            max_call_duration: Duration::from_hours(1),
            message_max: 16 * 1024 * 1024,
            session_idle: Duration::from_mins(30),
            children: 256,
            children_per_upstream: 64,
        }
    }
}

/// Whether this proxy runs commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowStdio {
    Yes,
    No,
}

/// All upstreams of this proxy.
#[derive(Debug)]
pub struct Upstreams {
    egress: Egress,
    allow_stdio: AllowStdio,
    data_dir: PathBuf,
    limits: Limits,
    active: ArcSwap<AHashMap<String, Arc<Active>>>,
    rest: RestTools,
    spawner: OnceLock<Result<Arc<Spawner>, String>>,
    news: Arc<News>,
    stage: Stage,
    wishes: Arc<Wishes>,
    farewells: TaskTracker,
    sweeper: OnceLock<DropGuard>,
}

impl Upstreams {
    /// No upstream yet. Children run in `data_dir` unless they are told another directory.
    pub fn new(
        egress: Egress,
        allow_stdio: AllowStdio,
        data_dir: PathBuf,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            rest: RestTools::new(&egress, limits),
            egress,
            allow_stdio,
            data_dir,
            limits,
            active: ArcSwap::default(),
            spawner: OnceLock::new(),
            news: Arc::default(),
            stage: Stage::default(),
            wishes: Arc::default(),
            farewells: TaskTracker::new(),
            sweeper: OnceLock::new(),
        })
    }

    /// Clients are served on this runtime, so connections to upstreams shall live here too.
    pub(crate) fn settle(&self) {
        self.egress.home().settle();
    }

    /// Follows the configuration: an upstream whose own did not change keeps its
    /// connections, sessions, child and health; calls in flight on others end in peace.
    pub fn reconcile(&self, table: &Arc<Table>) {
        let old = self.active.load();
        let mut new = AHashMap::with_capacity(table.upstreams.len());
        for (id, resource) in &*table.upstreams {
            let credential = credential_of(table, resource.credential_id.as_deref());
            let kept =
                old.get(&**id).filter(|active| active.is_configured_as(resource, credential));
            let active = match kept {
                Some(active) => {
                    active.adopt(resource);
                    Arc::clone(active)
                }
                None => Arc::new(self.activate(resource, credential)),
            };
            new.insert(id.to_string(), active);
        }
        let old = self.active.swap(Arc::new(new));
        let new = self.active.load();
        for (id, gone) in old.iter() {
            if new.get(id).is_none_or(|active| !Arc::ptr_eq(active, gone)) {
                gone.close();
            }
        }
        self.tend(table, &new);
    }

    /// Sees to it that somebody listens where there is something to hear.
    fn tend(&self, table: &Table, active: &AHashMap<String, Arc<Active>>) {
        self.wishes.prune(|id| !active.contains_key(id));
        let Some(runtime) = self.egress.home().known() else { return };
        for (id, resource) in &*table.upstreams {
            if let Some(active) = active.get(&**id) {
                let tells = Tells::read(resource.era, &resource.capabilities);
                active.tend(tells, &self.wishes, &runtime);
            }
        }
    }

    /// One client more that wants to hear when a resource, or a task, changes: `owner` is whose
    /// sessions at upstreams it uses, which are `subject`'s and declare `able`. `None`: the
    /// upstream never tells.
    pub(crate) fn wish(
        &self,
        upstream_id: &str,
        (owner, able, subject): (&SessionKey, Declared, &str),
        uri: &str,
    ) -> Option<Wish> {
        let active = self.find(upstream_id)?;
        let scope = active.scope(owner, uri)?;
        let wish = self.wishes.wish(upstream_id, (scope.clone(), able, subject), uri);
        let runtime = self.egress.home().known()?;
        active.keep(scope, &self.wishes, &runtime);
        Some(wish)
    }

    /// Whether a client listens to a resource on a connection that many share.
    pub(crate) fn is_wished(&self, upstream_id: &str, uri: &str) -> bool {
        self.wishes.is_wished(upstream_id, uri)
    }

    /// Sends one request of a client and waits for the first thing that the upstream says.
    /// Dropping the future cancels the call.
    pub async fn call(
        self: &Arc<Self>,
        table: &Arc<Table>,
        call: &Call,
    ) -> Result<Reply, CallError> {
        self.sweeper.get_or_init(|| sweep(Arc::downgrade(self)));
        if let Some((tool, binding, credential_id)) = call.target.authored() {
            let credential = credential_of(table, credential_id);
            let answer = Box::pin(self.rest.call(call, tool, binding, credential)).await;
            let upstream = || tool.name.to_string();
            return answer
                .map(Reply::Response)
                .map_err(|failure| CallError { upstream: upstream(), failure });
        }
        let upstream_id = call.target.upstream_id().unwrap_or_default();
        if let Some(active) = self.find(upstream_id) {
            let bounds = Bounds::of_call(&self.limits);
            if let Some(passage) = call.tasks.as_ref().filter(|tasks| tasks.is_for_legacy()) {
                let by = (Arc::clone(&active), bounds);
                // Boxed, so that other calls do not carry its size.
                if let Some(reply) = Box::pin(followed::serve(by, call, passage)).await {
                    return reply;
                }
            }
            let reply = active.call(call, bounds).await?;
            return Ok(reply.over_rounds((active, bounds), call));
        }
        Err(CallError { upstream: upstream_id.to_owned(), failure: CallFailure::Unknown })
    }

    /// Ends the upstream sessions of one client session or principal when their calls are done.
    pub fn close_session(&self, key: &SessionKey) {
        for active in self.active.load().values() {
            active.close_session(key);
        }
    }

    /// Sends a notification to all legacy upstream sessions of one client session.
    pub(crate) fn notify_session(&self, key: &SessionKey, body: &bytes::Bytes) {
        for active in self.active.load().values() {
            active.notify_session(key, body);
        }
    }

    /// Asks the upstream sessions of one client session for log messages from `level` on.
    pub(crate) fn want_logs(&self, key: &SessionKey, level: Level) {
        for active in self.active.load().values() {
            active.want_logs(key, level);
        }
    }

    /// Lets `audience` hear what upstreams say outside of calls.
    pub(crate) fn admit(&self, audience: Weak<dyn Audience>) {
        self.stage.admit(audience);
    }

    /// What changed, for the one who reports it.
    pub fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// The health of all upstreams that were used so far.
    pub fn health(&self) -> Vec<UpstreamHealth> {
        self.active.load().values().filter_map(|active| active.health().current()).collect()
    }

    /// How many sessions, connections and children are open at upstreams.
    pub fn open_count(&self) -> usize {
        self.active.load().values().map(|active| active.open_count()).sum()
    }

    /// The tasks on the thread that runs children.
    pub fn spawner_tasks(&self) -> usize {
        let spawner = self.spawner.get().and_then(|spawner| spawner.as_ref().ok());
        spawner.map_or(0, |spawner| spawner.handle().metrics().num_alive_tasks())
    }

    /// Ends all sessions and children; returns when they are gone or after six seconds.
    pub async fn shutdown(&self) {
        for (_, active) in self.active.swap(Arc::default()).iter() {
            active.close();
        }
        self.farewells.close();
        let ending = async {
            self.farewells.wait().await;
            if let Some(Ok(spawner)) = self.spawner.get() {
                spawner.shutdown().await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ending).await.is_err() {
            tracing::warn!("some upstreams did not say goodbye in time");
        }
    }

    pub(crate) fn find(&self, upstream_id: &str) -> Option<Arc<Active>> {
        self.active.load().get(upstream_id).map(Arc::clone)
    }

    /// The thread that runs children, started when it is needed first.
    fn spawner(&self) -> Result<Arc<Spawner>, CallFailure> {
        let start = || {
            Spawner::start(self.limits.children).map(Arc::new).map_err(|error| error.to_string())
        };
        self.spawner.get_or_init(start).clone().map_err(CallFailure::Spawn)
    }
}

fn credential_of<'a>(table: &'a Table, id: Option<&str>) -> Option<&'a CredentialResource> {
    table.credential(id?).map(AsRef::as_ref)
}

/// Looks for idle sessions as long as there are upstreams; ends when the guard is dropped.
fn sweep(upstreams: Weak<Upstreams>) -> DropGuard {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let half = upstreams.upgrade().map(|upstreams| upstreams.limits.session_idle / 2);
    let every = half.unwrap_or(SWEEP_INTERVAL).clamp(Duration::from_millis(10), SWEEP_INTERVAL);
    let sweeping = async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(upstreams) = upstreams.upgrade() else { return };
            for active in upstreams.active.load().values() {
                active.sweep(upstreams.limits.session_idle);
            }
        }
    };
    tokio::spawn(async move { stopped.run_until_cancelled(sweeping).await });
    stop.drop_guard()
}

#[cfg(test)]
pub(crate) mod testing;
