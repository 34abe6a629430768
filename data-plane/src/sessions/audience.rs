//! Passes what upstreams say outside of calls to the clients that it is for.

use super::{Live, Sessions};
use crate::{
    mcp::{Message, Notice},
    upstream::{Audience, Said, SessionKey},
};

impl Audience for Sessions {
    fn hear(&self, owner: &SessionKey, said: Said) {
        let live = match owner {
            SessionKey::Client(id) => self.live.get(id),
            // Requests are refused by being dropped.
            SessionKey::Principal { .. } => None,
        };
        let Some(live) = live.map(|live| std::sync::Arc::clone(&live)) else { return };
        match said {
            Said::Request(question) => live.ask_outside(question),
            Said::Notice(notice, message) => live.notice(notice, &message),
        }
    }
}

impl Live {
    /// Tells the client what an upstream session of its own says.
    fn notice(&self, notice: Notice, message: &Message) {
        match notice {
            Notice::Progress
            | Notice::Log
            | Notice::ResourceUpdated
            | Notice::ElicitationComplete => drop(self.tell(message.body.clone())),
            Notice::Cancelled => {
                let id = message.params().and_then(|params| params.request_id);
                let told = id.and_then(|id| self.withdraw(message.raw(id), None));
                told.map(|told| self.tell(told));
            }
            // Lists are the gateway's own.
            Notice::ToolsChanged
            | Notice::PromptsChanged
            | Notice::ResourcesChanged
            | Notice::Acknowledged => (),
        }
    }
}
