//! Bytes of the last-known-good configuration: framed, sealed, readable after any cut.
//!
//! A file is a sequence of frames: length (u32), nonce, sealed payload. The seal keeps
//! credentials unreadable in a copy of the file and proves that a frame is whole.
//! A snapshot file holds one frame with an update without base; a log holds one
//! frame per later update. A frame that is cut or damaged ends the reading.

use std::fmt;

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _};
use prost::Message as _;
use proto::wire;

use super::content::Content;

const LENGTH: usize = 4;
const NONCE: usize = 24;

/// Seals the saved configuration of one proxy.
#[derive(Clone)]
pub struct RecordKey(XChaCha20Poly1305);

impl fmt::Debug for RecordKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecordKey(***)")
    }
}

/// What a snapshot file and its log amount to.
#[derive(Debug)]
pub struct Replayed {
    pub content: Content,
    /// Bytes of the log that are good; what follows is a torn tail.
    pub log_length: u64,
}

impl RecordKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// One payload as it stands in a file; empty if it cannot be sealed, which reads as torn.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let Ok(sealed) = self.0.encrypt(&XNonce::from(nonce), payload) else { return Vec::new() };
        let Ok(length) = u32::try_from(sealed.len()) else { return Vec::new() };
        let mut frame = Vec::with_capacity(LENGTH + NONCE + sealed.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&nonce);
        frame.extend_from_slice(&sealed);
        frame
    }

    /// Reads a snapshot and as much of its log as is whole. None: the snapshot is not whole.
    pub fn replay(&self, snapshot: &[u8], log: &[u8]) -> Option<Replayed> {
        let (payload, rest) = self.split(snapshot)?;
        let update = wire::Update::decode(payload.as_slice()).ok()?;
        if !rest.is_empty() || update.base.is_some() {
            return None;
        }
        let mut content = Content::default();
        content.apply(update).ok()?;
        let mut rest = log;
        while let Some((payload, after)) = self.split(rest) {
            let Ok(update) = wire::Update::decode(payload.as_slice()) else { break };
            // Without base it would be a snapshot, which has no place in a log.
            if update.base.is_none() || content.apply(update).is_err() {
                break;
            }
            rest = after;
        }
        let log_length = (log.len() - rest.len()) as u64;
        Some(Replayed { content, log_length })
    }

    /// The payload of the first frame, and what follows it.
    fn split<'a>(&self, bytes: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (sealed, rest) = rest.split_at_checked(length)?;
        let payload = self.0.decrypt(&XNonce::from(*nonce), sealed).ok()?;
        Some((payload, rest))
    }
}
