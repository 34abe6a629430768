//! Passes what upstreams say outside of calls to the clients that it is for.

use std::sync::Arc;

use proto::Era;

use super::{Live, Sessions, watching::Update};
use crate::{
    mcp::{Level, Message, Notice, subscription::Topics, translate::notification_to_client},
    upstream::{Audience, Said, SessionKey, Speaker, log_level},
};

impl Audience for Sessions {
    fn hear(&self, owner: &SessionKey, from: Speaker<'_>, said: Said) {
        let upstream_id = from.upstream_id;
        match owner {
            SessionKey::Client(id) => {
                let live = self.live.get(id).map(|live| Arc::clone(&live));
                let Some(live) = live else { return };
                match said {
                    Said::Request(question) => {
                        live.ask_outside(live.in_own_terms(upstream_id, question));
                    }
                    Said::Notice(Notice::TaskStatus, message) => {
                        live.task_changed(upstream_id, &message);
                    }
                    Said::Extension(message) => live.tell_extension(&message),
                    Said::Notice(notice, message) => {
                        live.notice(from, notice, &live.in_own_tasks(upstream_id, *message));
                    }
                }
            }
            // Modern clients hear of resources and tasks alone. Requests are refused by being dropped.
            SessionKey::Principal { .. } => {
                if let Said::Notice(Notice::TaskStatus, message) = &said {
                    self.listeners.task_changed(Some(owner), upstream_id, message);
                }
                if let Said::Notice(Notice::ResourceUpdated, message) = said
                    && let Some(update) = Update::read(&message)
                {
                    self.listeners.updated(Some(owner), upstream_id, &update);
                }
            }
        }
    }

    fn updated(&self, upstream_id: &str, message: &Message) {
        let Some(update) = Update::read(message) else { return };
        for live in &self.live {
            live.updated(upstream_id, &update);
        }
        self.listeners.updated(None, upstream_id, &update);
    }

    fn lists_changed(&self, owner: &SessionKey, topics: Topics) {
        match owner {
            SessionKey::Client(id) => {
                let live = self.live.get(id).map(|live| Arc::clone(&live));
                if let Some(live) = live {
                    live.lists_changed(topics);
                }
            }
            SessionKey::Principal { .. } => self.listeners.lists_changed_for(owner, topics),
        }
    }

    fn has_subscribed(&self, upstream_id: &str, uri: &str) -> bool {
        self.is_subscribed(upstream_id, uri)
    }

    fn level(&self, owner: &SessionKey) -> Option<Level> {
        match owner {
            SessionKey::Client(id) => self.live.get(id)?.wanted_logs().level(),
            SessionKey::Principal { .. } => None,
        }
    }

    fn task_changed(&self, upstream_id: &str, message: &Message) {
        for live in &self.live {
            live.task_changed(upstream_id, message);
        }
        self.listeners.task_changed(None, upstream_id, message);
    }
}

impl Live {
    /// Tells the client what an upstream session of its own says.
    fn notice(&self, from: Speaker<'_>, notice: Notice, message: &Message) {
        match notice {
            Notice::Log if !self.wanted_logs().takes(log_level(message).as_deref()) => (),
            Notice::Log => {
                let writer = self.askers().named(from.name);
                self.tell(notification_to_client(message, Era::Legacy, None, writer));
            }
            Notice::Progress | Notice::ElicitationComplete => {
                self.tell(message.body().clone());
            }
            Notice::ResourceUpdated => {
                if let Some(update) = Update::read(message) {
                    self.updated(from.upstream_id, &update);
                }
            }
            Notice::Cancelled => {
                let id = message.params().and_then(|params| params.request_id);
                if let Some(id) = id {
                    self.withdraw_outside(message.raw(id));
                }
            }
            // Lists are the gateway's own.
            Notice::ToolsChanged
            | Notice::PromptsChanged
            | Notice::ResourcesChanged
            | Notice::TaskStatus
            | Notice::Acknowledged => (),
        }
    }
}
