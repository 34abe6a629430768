//! Requests that are answered while a pipe goes on: by another proxy, or after a look at what
//! upstreams show to its client alone.

use std::sync::Arc;

use bytes::Bytes;
use proto::Principal;

use super::Pipe;
use crate::{
    edge::{self, Caller},
    engine::{Sender, Served},
    mcp::{Message, translate::content, version, version::InboundEra},
    snapshot::table::Table,
};

impl Pipe {
    /// Whether another proxy may have to answer a request, or what upstreams show to this client
    /// alone.
    pub(super) fn may_take_time(
        &self,
        message: &Message,
        table: &Arc<Table>,
        principal: &Arc<Principal>,
    ) -> bool {
        let has_others = table.has_other_proxies(self.edge.proxy_id());
        if !has_others && !table.is_private() {
            return false;
        }
        let sender = self.sender(Arc::clone(table), Arc::clone(principal));
        let is_elsewhere = || {
            version::era_of_body(message)
                .is_ok_and(|era| self.edge.may_be_elsewhere(&sender, message, &era))
        };
        edge::is_private(&sender, message) || (has_others && is_elsewhere())
    }

    /// The answer to a request, while others are read.
    pub(super) async fn carry(
        &self,
        message: Message,
        table: Arc<Table>,
        principal: Arc<Principal>,
    ) -> Option<Bytes> {
        let id = message.id_bytes();
        let mut sender = self.sender(Arc::clone(&table), principal);
        let carried = match version::era_of_body(&message) {
            Ok(era)
                if table.has_other_proxies(self.edge.proxy_id())
                    && self.edge.may_be_elsewhere(&sender, &message, &era) =>
            {
                let carried =
                    self.edge.carried(&sender, self.authorization.as_ref(), &message, &era).await;
                carried.map(|answer| (answer, era))
            }
            Ok(era) => Ok((None, era)),
            Err(error) => Err(error.into()),
        };
        let served = match carried {
            Ok((Some(answer), era)) => return Some(self.in_its_words(answer, &era)),
            Ok((None, era)) => {
                if edge::is_private(&sender, &message) {
                    let caller = self.as_caller(&sender, &era);
                    self.edge.look(&mut sender, &message, &caller).await;
                }
                self.serve(message, sender)
            }
            Err(failure) => Err(failure),
        };
        match served {
            Ok(Served::Answer(answer) | Served::Began { answer, id: _ }) => {
                Some(answer.into_bytes())
            }
            Ok(Served::Relay(exchange)) => self.pump(exchange).await,
            Ok(Served::Listening(hearing)) => self.tell(hearing).await,
            Ok(Served::Accepted) => None,
            Err(failure) => Some(self.refusal(&failure, Some(&id))),
        }
    }

    /// Another proxy answers as to a client of the newest version.
    fn in_its_words(&self, answer: Bytes, era: &InboundEra) -> Bytes {
        let version = match era {
            InboundEra::Legacy { .. } => self.session.get().map(|session| session.claims.version),
            InboundEra::Modern { .. } => None,
        };
        let version = version.filter(|version| *version < content::ALL_SINCE);
        version
            .map_or_else(|| answer.clone(), |version| content::for_older(answer.clone(), version))
    }

    fn as_caller(&self, sender: &Sender<'_>, era: &InboundEra) -> Caller {
        match (era, self.session.get()) {
            (InboundEra::Legacy { .. }, Some(session)) => Caller::of_session(&session.claims),
            (InboundEra::Legacy { .. }, None) | (InboundEra::Modern { .. }, _) => {
                Caller::alone(sender, era)
            }
        }
    }
}
