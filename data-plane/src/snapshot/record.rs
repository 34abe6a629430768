//! Bytes of the last-known-good configuration: framed, hash-checked, readable after any cut.
//!
//! A file is a sequence of frames: length (u32), SHA-256 of the payload, payload.
//! A snapshot file holds one frame with an update without base; a log holds one
//! frame per later update. A frame that is cut or damaged ends the reading.

use prost::Message as _;
use proto::wire;
use sha2::{Digest as _, Sha256};

use super::content::Content;

const LENGTH: usize = 4;
const HASH: usize = 32;

/// One payload as it stands in a file.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(LENGTH + HASH + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&Sha256::digest(payload));
    frame.extend_from_slice(payload);
    frame
}

/// What a snapshot file and its log amount to.
#[derive(Debug)]
pub struct Replayed {
    pub content: Content,
    /// Bytes of the log that are good; what follows is a torn tail.
    pub log_length: u64,
}

/// Reads a snapshot and as much of its log as is whole. None: the snapshot is not whole.
pub fn replay(snapshot: &[u8], log: &[u8]) -> Option<Replayed> {
    let (payload, rest) = split(snapshot)?;
    let update = wire::Update::decode(payload).ok()?;
    if !rest.is_empty() || update.base.is_some() {
        return None;
    }
    let mut content = Content::default();
    content.apply(update).ok()?;
    let mut rest = log;
    while let Some((payload, after)) = split(rest) {
        let Ok(update) = wire::Update::decode(payload) else { break };
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
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (hash, rest) = rest.split_first_chunk::<HASH>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    (Sha256::digest(payload).as_slice() == hash).then_some((payload, rest))
}
