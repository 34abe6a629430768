//! Tasks that may have gone on while nobody listened: their state is asked for, and told like
//! what the upstream tells.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use super::{Keeping, Line};
use crate::{
    mcp::{Capabilities, Declared, Message, response::quote, task},
    upstream::{
        Bounds, SessionKey,
        active::{Active, Adapter},
        era::Speech,
        failure::CallFailure,
    },
};

/// How long an upstream may take to say how it stands with one task.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

type Asking = Pin<Box<dyn Future<Output = Result<Message, CallFailure>> + Send>>;

/// The tasks that are still to be asked about, one after another.
#[derive(Default)]
pub(super) struct Missed {
    tasks: VecDeque<Box<str>>,
    /// The first of them is asked about.
    asking: Option<Asking>,
}

impl Missed {
    pub(super) fn add(&mut self, id: &str) {
        if !self.tasks.iter().any(|task| **task == *id) {
            self.tasks.push_back(id.into());
        }
    }

    /// Something newer is known of a task than what was asked for.
    pub(super) fn is_known(&mut self, id: &str) {
        if self.tasks.front().is_some_and(|task| **task == *id) {
            self.asking = None;
        }
        self.tasks.retain(|task| **task != *id);
    }

    /// The next state that is to be told; never, if there is none. Safe to drop while waiting.
    pub(super) async fn next(&mut self, keeping: &Keeping) -> Message {
        loop {
            let (Some(id), Some(active)) = (self.tasks.front(), keeping.active.upgrade()) else {
                std::future::pending::<()>().await;
                continue;
            };
            let begin = || {
                let (owner, wished) = (keeping.owner().cloned(), Arc::clone(&keeping.wished));
                let id = id.clone();
                let asking = async move { active.task(owner.as_ref(), wished.able(), &id).await };
                Box::pin(asking) as Asking
            };
            let told = self.asking.get_or_insert_with(begin).as_mut().await;
            self.asking = None;
            self.tasks.pop_front();
            match told {
                Ok(told) => {
                    if let Some(message) = task::as_notice(&told) {
                        return message;
                    }
                }
                Err(failure) => {
                    tracing::debug!(upstream_id = &*keeping.upstream_id, %failure, "no state of a task");
                }
            }
        }
    }
}

impl Active {
    /// What a modern upstream answers to `tasks/get`.
    async fn task(
        &self,
        owner: Option<&SessionKey>,
        able: (Declared, &str),
        id: &str,
    ) -> Result<Message, CallFailure> {
        const METHOD: &str = "tasks/get";
        let members = format!(r#""taskId":{}"#, quote(id));
        let question = (METHOD, members.as_str());
        let bounds = Bounds::of_step(self.limits(), ASK_TIMEOUT);
        if let Adapter::Http(http) = &self.adapter {
            let (endpoint, speech) = (http.endpoint(), Speech::Modern(Capabilities::tasks()));
            let headers = endpoint.modern_headers(METHOD, Some(id));
            return endpoint.ask(speech, headers, question, &bounds).await?.message;
        }
        match bounds.within(self.line_of(owner, able)).await?? {
            Line::Pipe(link) => link.ask(Capabilities::tasks(), question, &bounds).await,
            Line::Http(..) => Err(CallFailure::Gone),
        }
    }
}
