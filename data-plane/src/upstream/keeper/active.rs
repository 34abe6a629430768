//! What keepers ask of an upstream, and the keepers that it has.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::Era;
use tokio::runtime::Handle;

use super::{
    Keeper, Tells,
    channel::{Channel, Wanted},
    subscribe::Line,
};
use crate::{
    mcp::{Capabilities, Declared, Message, Notice, subscription::task_of},
    upstream::{
        Bounds, Limits, SessionKey,
        active::{Active, Adapter},
        audience::Said,
        failure::CallFailure,
        wishes::{Scope, Wishes},
    },
};

/// How long an upstream may take to acknowledge a subscription.
const OPEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The keepers of one upstream.
#[derive(Debug)]
pub(crate) struct Keepers {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tells: Tells,
    running: AHashMap<Scope, Keeper>,
    /// The upstream is gone, and nothing begins any more.
    has_ended: bool,
}

impl Keepers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Ends what they keep, for good.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        state.running.clear();
    }

    /// Forgets those that are done.
    pub(crate) fn sweep(&self) {
        self.state.lock().running.retain(|_, keeper| !keeper.is_done());
    }
}

impl Active {
    /// Follows what the configuration knows of the upstream.
    pub(crate) fn tend(self: &Arc<Self>, tells: Tells, wishes: &Arc<Wishes>, runtime: &Handle) {
        self.keepers.state.lock().tells = tells;
        let mut scopes = wishes.scopes(self.id());
        if tells.is_always_heard() && self.scope_of_all().is_some() {
            scopes.push(Scope::All);
        }
        for scope in scopes {
            self.keep(scope, wishes, runtime);
        }
    }

    /// Sees to it that somebody keeps what is wished in a scope.
    pub(crate) fn keep(self: &Arc<Self>, scope: Scope, wishes: &Arc<Wishes>, runtime: &Handle) {
        let mut state = self.keepers.state.lock();
        if state.has_ended {
            return;
        }
        let tells = state.tells;
        let own = wishes.wished(self.id(), &scope);
        if state.running.get(&scope).is_some_and(|keeper| keeper.is_fit(tells, &own)) {
            return;
        }
        let shared = (Arc::downgrade(wishes), own);
        let keeper = Keeper::start(self, scope.clone(), tells, shared, runtime);
        state.running.insert(scope, keeper);
    }

    /// On whose connection the upstream tells the client sessions or the principal `owner` of
    /// changes of this resource or task; `None` if it tells nobody.
    pub(crate) fn scope(&self, owner: &SessionKey, uri: &str) -> Option<Scope> {
        let tells = self.keepers.state.lock().tells;
        let is_told = if task_of(uri).is_some() { tells.tasks } else { tells.resources };
        if !is_told || matches!(self.adapter, Adapter::Refused(_)) {
            return None;
        }
        let is_common = tells.era == Some(Era::Modern) || matches!(self.adapter, Adapter::Pipe(_));
        let common = self.scope_of_all().filter(|_| is_common);
        Some(common.unwrap_or_else(|| Scope::Session(owner.clone())))
    }

    /// The scope of all, if there is a connection that is everybody's.
    fn scope_of_all(&self) -> Option<Scope> {
        match &self.adapter {
            Adapter::Http(_) => Some(Scope::All),
            Adapter::Pipe(pipe) => pipe.is_shared().then_some(Scope::All),
            Adapter::Refused(_) => None,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.keepers.limits
    }

    /// Opens a subscription at a modern upstream.
    pub(super) async fn subscription(
        &self,
        (owner, (able, subject)): (Option<&SessionKey>, (Declared, &str)),
        wanted: Wanted,
    ) -> Result<Channel, CallFailure> {
        let bounds = Bounds::of_step(self.limits(), OPEN_TIMEOUT);
        match (&self.adapter, owner) {
            (Adapter::Http(http), _) => {
                Channel::over_http(Arc::clone(http.endpoint()), wanted, bounds).await
            }
            (Adapter::Pipe(pipe), None) => {
                let link = bounds.within(pipe.common_link()).await?;
                Channel::over_pipe(link.ok_or(CallFailure::Gone)??, wanted, bounds).await
            }
            (Adapter::Pipe(pipe), Some(owner)) => {
                let link =
                    bounds.within(pipe.link_of(owner, (declared(owner, able), subject))).await??;
                Channel::over_pipe(link, wanted, bounds).await
            }
            (Adapter::Refused(failure), _) => Err(failure.clone()),
        }
    }

    /// Opens a session at a legacy upstream, or takes the one that is open.
    pub(super) async fn line(
        &self,
        owner: Option<&SessionKey>,
        (able, subject): (Declared, &str),
    ) -> Result<Line, CallFailure> {
        let line = self.line_of(owner, (able, subject)).await?;
        // A call would ask for log messages too, but this client may only listen.
        if let Some(owner) = owner
            && let Some(level) = self.health().level(owner)
        {
            line.want_logs(level, owner).await;
        }
        Ok(line)
    }

    /// The same as it is.
    pub(super) async fn line_of(
        &self,
        owner: Option<&SessionKey>,
        (able, subject): (Declared, &str),
    ) -> Result<Line, CallFailure> {
        match (&self.adapter, owner) {
            (Adapter::Http(http), Some(owner)) => {
                http.line(owner, (declared(owner, able), subject)).await
            }
            (Adapter::Pipe(pipe), Some(owner)) => {
                pipe.link_of(owner, (declared(owner, able), subject)).await.map(Line::Pipe)
            }
            (Adapter::Pipe(pipe), None) => {
                pipe.common_link().await.ok_or(CallFailure::Gone)?.map(Line::Pipe)
            }
            (Adapter::Refused(failure), _) => Err(failure.clone()),
            (Adapter::Http(_), None) => Err(CallFailure::Gone),
        }
    }

    /// A session is of no more use.
    pub(super) fn forget_line(&self, owner: Option<&SessionKey>, line: &Line) {
        if let (Adapter::Http(http), Some(owner), Line::Http(_, session)) =
            (&self.adapter, owner, line)
            && session.is_lost()
        {
            http.forget_session(owner, session);
        }
    }

    /// Tells, to whom it concerns, the state of a task.
    pub(super) fn task_changed(&self, owner: Option<&SessionKey>, message: Message) {
        match owner {
            None => self.health().task_changed(&message),
            Some(owner) => {
                self.health().say(owner, Said::Notice(Notice::TaskStatus, Box::new(message)));
            }
        }
    }

    /// Tells, to whom it concerns, that a resource changed.
    pub(super) fn resource_updated(&self, owner: Option<&SessionKey>, message: Message) {
        match owner {
            None => self.health().updated(&message),
            Some(owner) => {
                self.health().say(owner, Said::Notice(Notice::ResourceUpdated, Box::new(message)));
            }
        }
    }
}

/// What is declared in the name of who is `able`, as its calls declare it.
fn declared(owner: &SessionKey, able: Declared) -> Declared {
    match owner {
        SessionKey::Client(_) => able,
        SessionKey::Principal { .. } => {
            able.known.without(Capabilities::of(&["roots.listChanged"])).into()
        }
    }
}
