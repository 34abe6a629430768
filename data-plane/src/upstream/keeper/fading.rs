//! The subscription before the current one, which is still read for a moment.

use ahash::AHashMap;
use tokio::time::Instant;

use super::channel::Channel;
use crate::mcp::Message;

/// The subscription before the current one.
pub(super) struct Fading {
    pub(super) channel: Box<Channel>,
    pub(super) until: Instant,
    /// How often each resource was told of on the old and on the new one.
    told: AHashMap<Box<str>, [u32; 2]>,
}

/// Which of two subscriptions said something.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Old,
    New,
}

impl Fading {
    pub(super) fn new(channel: Box<Channel>, until: Instant) -> Self {
        Self { channel, until, told: AHashMap::new() }
    }

    /// Whether a message is not what the other subscription said too.
    pub(super) fn is_new(&mut self, message: &Message, side: Side) -> bool {
        let uri = message.params().and_then(|params| params.uri.as_ref());
        let Some(uri) = uri.and_then(|uri| uri.as_str()) else { return true };
        let [old, new] = self.told.entry(uri.into()).or_default();
        let (own, other) = match side {
            Side::Old => (old, new),
            Side::New => (new, old),
        };
        *own += 1;
        *own > *other
    }
}
