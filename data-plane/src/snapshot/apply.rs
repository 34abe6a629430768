//! The proxy's side of the sync protocol, without I/O: parts in, one whole change out.
//!
//! Keeps the promises of the protocol (P1-P6): revisions grow within an epoch,
//! none is taken twice, all of one update becomes visible at once, content is
//! proved by hash, and a bookmark never claims more than was received.

use prost::Message as _;
use proto::{
    Applied, Outcome, Position,
    proxy::FieldError,
    resource::{Resource, kind},
    wire,
};

use super::content::{Content, ContentError, Difference};

/// Most bytes of one update, all parts together.
pub const UPDATE_MAX: usize = 256 * 1024 * 1024;

/// Most field errors sent back about one update.
const ERRORS_MAX: usize = 64;
/// Longest message of a field error, in bytes.
const MESSAGE_MAX: usize = 1024;

/// Makes what requests are served from; the errors name resource and field.
pub type Compile<T> = Box<
    dyn Fn(
            &mut dyn Iterator<Item = &Resource>,
            &Position,
            Changed<'_>,
        ) -> Result<T, Vec<FieldError>>
        + Send
        + Sync,
>;

/// Most resources of an update that are told one by one.
const TOLD_MAX: usize = 64;

/// What an update changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Changed<'a> {
    Anything,
    /// Only this, since the configuration at this position.
    Only(&'a Position, &'a [Difference<'a>]),
    /// Only which sessions have ended, since the configuration at this position.
    EndedSessions(&'a Position),
}

/// The other side broke the protocol: the stream must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("an update without target")]
    NoTarget,
    #[error("a part of another update before the last part of this one")]
    Interleaved,
    #[error("revision {sent} after revision {reached}")]
    Backwards { reached: u64, sent: u64 },
    #[error("another store epoch on the same stream")]
    OtherEpoch,
    #[error("an update larger than {UPDATE_MAX} bytes")]
    TooLarge,
    #[error("a snapshot whose content has another hash")]
    OtherHash,
    #[error("a bookmark at {bookmark} when only {reached} was sent")]
    Gap { reached: u64, bookmark: u64 },
}

/// What a part led to.
#[derive(Debug)]
pub enum Step<T> {
    /// More parts are to come.
    More,
    Done(Done<T>),
}

/// An update that is complete, and its answer.
#[derive(Debug)]
pub struct Done<T> {
    pub target: Position,
    pub result: Result<Change<T>, Refusal>,
}

/// An update that was taken.
#[derive(Debug)]
pub struct Change<T> {
    pub table: T,
    /// The update as a record for the disk.
    pub record: Record,
    /// It takes a token, key or credential away: to be on disk before the answer.
    pub takes_grants: bool,
}

/// An update that was not taken; the old configuration stays, whole.
#[derive(Debug)]
pub enum Refusal {
    Invalid(Vec<FieldError>),
    /// It starts from something that is not here.
    OtherBase,
}

/// A complete update, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Snapshot(Vec<u8>),
    Delta(Vec<u8>),
}

/// Holds the configuration and takes updates of it.
pub struct Applier<T> {
    content: Content,
    compile: Compile<T>,
    pending: Option<Pending>,
    /// Target of the last complete update on this stream.
    last: Option<Position>,
    /// A snapshot of `last` was asked for.
    resync: bool,
    /// Highest revision ever received by this process, taken or not.
    received: u64,
}

struct Pending {
    update: wire::Update,
    bytes: usize,
}

impl<T> Applier<T> {
    pub fn new(compile: Compile<T>) -> Self {
        Self {
            content: Content::default(),
            compile,
            pending: None,
            last: None,
            resync: false,
            received: 0,
        }
    }

    /// Starts from what was on disk.
    pub fn restore(&mut self, content: Content) -> Result<T, Vec<FieldError>> {
        let position = content.position().cloned().unwrap_or_default();
        let table = (self.compile)(&mut content.resources(), &position, Changed::Anything)?;
        self.received = position.revision;
        self.content = content;
        Ok(table)
    }

    /// What is active.
    pub fn position(&self) -> Option<&Position> {
        self.content.position()
    }

    pub fn content(&self) -> &Content {
        &self.content
    }

    /// A new stream: what was received of an unfinished update is void.
    pub fn connected(&mut self) {
        self.pending = None;
        self.last = None;
        self.resync = false;
    }

    /// Takes one part of an update.
    pub fn part(&mut self, mut part: wire::Update) -> Result<Step<T>, Violation> {
        let bytes = part.encoded_len();
        let target = Position::from(part.target.clone().ok_or(Violation::NoTarget)?);
        let last = part.last;
        let pending = match self.pending.take() {
            None => {
                self.check_order(&target, &part)?;
                Pending { update: part, bytes }
            }
            Some(mut pending) => {
                if pending.update.target != part.target || pending.update.base != part.base {
                    return Err(Violation::Interleaved);
                }
                pending.update.upsert.append(&mut part.upsert);
                pending.update.remove.append(&mut part.remove);
                Pending { bytes: pending.bytes + bytes, ..pending }
            }
        };
        if pending.bytes > UPDATE_MAX {
            return Err(Violation::TooLarge);
        }
        if !last {
            self.pending = Some(pending);
            return Ok(Step::More);
        }
        self.received = match self.position() {
            Some(active) if active.store_epoch != target.store_epoch => target.revision,
            _ => self.received.max(target.revision),
        };
        self.last = Some(target.clone());
        self.resync = false;
        let result = self.complete(wire::Update { last: true, ..pending.update })?;
        Ok(Step::Done(Done { target, result }))
    }

    /// P1 and P2: within an epoch revisions only grow. A snapshot of the same
    /// revision is fine where the content is another (a rebuilt control
    /// plane), and where it was asked for.
    fn check_order(&self, target: &Position, part: &wire::Update) -> Result<(), Violation> {
        let is_snapshot = part.base.is_none();
        let backwards = |reached: &Position| Violation::Backwards {
            reached: reached.revision,
            sent: target.revision,
        };
        if let Some(last) = &self.last {
            if last.store_epoch != target.store_epoch {
                return Err(Violation::OtherEpoch);
            }
            let again = self.resync && is_snapshot && target.revision == last.revision;
            if target.revision <= last.revision && !again {
                return Err(backwards(last));
            }
        }
        let Some(active) = self.content.position() else { return Ok(()) };
        if active.store_epoch != target.store_epoch {
            return Ok(());
        }
        let rebuilt = is_snapshot
            && target.revision == active.revision
            && target.root_hash != active.root_hash;
        if target.revision <= active.revision && !rebuilt {
            return Err(backwards(active));
        }
        Ok(())
    }

    fn complete(&mut self, update: wire::Update) -> Result<Result<Change<T>, Refusal>, Violation> {
        let is_snapshot = update.base.is_none();
        let bytes = update.encode_to_vec();
        let before = self.content.position().cloned();
        let undo = match self.content.apply(update) {
            Ok(undo) => undo,
            Err(ContentError::NoTarget) => return Err(Violation::NoTarget),
            Err(ContentError::OtherHash) if is_snapshot => return Err(Violation::OtherHash),
            Err(ContentError::OtherBase | ContentError::OtherHash) => {
                self.resync = true;
                return Ok(Err(Refusal::OtherBase));
            }
            Err(ContentError::Refused(errors)) => return Ok(Err(Refusal::Invalid(errors))),
        };
        let position = self.content.position().cloned().unwrap_or_default();
        let differences = self.content.differences(&undo, TOLD_MAX);
        let changed = match (&before, &differences) {
            (Some(before), _) if Content::changes_only(&undo, kind::ENDED_SESSIONS) => {
                Changed::EndedSessions(before)
            }
            (Some(before), Some(differences)) => Changed::Only(before, differences),
            (Some(_) | None, _) => Changed::Anything,
        };
        let compiled = (self.compile)(&mut self.content.resources(), &position, changed);
        match compiled {
            Err(errors) => {
                self.content.undo(undo);
                Ok(Err(Refusal::Invalid(errors)))
            }
            Ok(table) => {
                let takes_grants = self.content.takes_grants(&undo);
                let record =
                    if is_snapshot { Record::Snapshot(bytes) } else { Record::Delta(bytes) };
                Ok(Ok(Change { table, record, takes_grants }))
            }
        }
    }

    /// P6: everything up to `head_revision` has been sent, so it must be here.
    pub fn bookmark(&self, head_revision: u64) -> Result<(), Violation> {
        if head_revision > self.received {
            return Err(Violation::Gap { reached: self.received, bookmark: head_revision });
        }
        Ok(())
    }
}

impl<T> Done<T> {
    /// The answer to send, once what must be on disk is there.
    pub fn answer(&self, apply_ms: u32) -> Applied {
        let (outcome, errors) = match &self.result {
            Ok(_) => (Outcome::Active, Vec::new()),
            Err(Refusal::OtherBase) => (Outcome::Resync, Vec::new()),
            Err(Refusal::Invalid(errors)) => (Outcome::Rejected, bounded(errors)),
        };
        Applied { position: self.target.clone(), outcome, errors, apply_ms }
    }
}

fn bounded(errors: &[FieldError]) -> Vec<FieldError> {
    let cut = |text: &str| {
        let end = (0..=MESSAGE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
    };
    let errors = errors.iter().take(ERRORS_MAX).map(|error| FieldError {
        resource: cut(&error.resource),
        field: cut(&error.field),
        message: cut(&error.message),
    });
    errors.collect()
}

#[cfg(test)]
pub(super) mod tests;
