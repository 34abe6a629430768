//! One write: its transaction, who asks, and when.

use proto::{Invalid, Permission};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Registry, WriteOptions};
use crate::{
    caller::Caller,
    config::StdioUpstreams,
    error::Error,
    seal::Sealer,
    snapshot::build,
    store::{
        Write, configuration,
        requests::{self, Remembered, Request},
    },
};

/// Longest `request_id`; a UUID has 36 characters.
const REQUEST_ID_MAX: usize = 128;

/// The transaction of one write. Dropped unfinished, it leaves nothing.
pub(super) struct Unit<'a> {
    pub(super) write: Write,
    pub(super) caller: &'a Caller,
    pub(super) sealer: &'a Sealer,
    pub(super) stdio: StdioUpstreams,
    pub(super) now_ms: i64,
    ending: Ending<'a>,
}

enum Ending<'a> {
    Commit,
    Remember(Request<'a>),
    /// Only a check.
    Discard,
    /// What proxies found out; it was made to fit before.
    Record,
}

/// A write at its beginning.
pub(super) enum Begun<'a, T> {
    New(Unit<'a>),
    /// It was done before: this was the answer.
    Again(T),
}

/// What is remembered of a write of one object.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) revision: u64,
}

impl Registry {
    /// Begins a write. `operation` and `body` tell a repetition from another
    /// request that carries the same id.
    pub(super) async fn begin<'a, T: DeserializeOwned>(
        &'a self,
        caller: &'a Caller,
        options: &'a WriteOptions,
        (operation, body): (&str, impl Serialize),
    ) -> Result<Begun<'a, T>, Error> {
        caller.require(Permission::RegistryWrite)?;
        let now_ms = self.clock.now_ms();
        let request = request(caller, options, now_ms)?;
        let mut write = self.store.begin_write().await?;
        let ending = match request {
            _ if options.validate_only => Ending::Discard,
            None => Ending::Commit,
            Some(mut request) => {
                request.digest = requests::digest(operation, &body)?;
                match requests::recall(&mut write, &request).await? {
                    Remembered::New => Ending::Remember(request),
                    Remembered::Answered(answer) => return Ok(Begun::Again(answer)),
                    Remembered::Differs => {
                        let problem = "was used for another request: choose a new one";
                        return Err(Invalid::new("request_id", problem).into());
                    }
                }
            }
        };
        Ok(Begun::New(Unit {
            write,
            caller,
            sealer: &self.sealer,
            stdio: self.stdio,
            now_ms,
            ending,
        }))
    }

    /// Begins a write of the gateway itself, on behalf of nobody.
    pub(super) async fn begin_internal<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Result<Unit<'a>, Error> {
        let write = self.store.begin_write().await?;
        let now_ms = self.clock.now_ms();
        Ok(Unit {
            write,
            caller,
            sealer: &self.sealer,
            stdio: self.stdio,
            now_ms,
            ending: Ending::Record,
        })
    }
}

fn request<'a>(
    caller: &'a Caller,
    options: &'a WriteOptions,
    now_ms: i64,
) -> Result<Option<Request<'a>>, Invalid> {
    let Some(id) = options.request_id.as_deref() else { return Ok(None) };
    let printable = id.chars().all(|c| c.is_ascii_graphic());
    if id.is_empty() || id.len() > REQUEST_ID_MAX || !printable {
        return Err(Invalid::new("request_id", "must be 1-128 printable characters"));
    }
    Ok(Some(Request { subject: caller.subject(), id, digest: String::new(), now_ms }))
}

impl Unit<'_> {
    /// Ends the write with its answer: durable, or forgotten if it was a check.
    pub(super) async fn finish(self, answer: &impl Serialize) -> Result<(), Error> {
        let Self { mut write, ending, sealer, .. } = self;
        if !matches!(ending, Ending::Record) {
            refuse_unloadable(&mut write, sealer).await?;
        }
        match ending {
            Ending::Discard => return Ok(()),
            Ending::Commit | Ending::Record => (),
            Ending::Remember(request) => requests::remember(&mut write, &request, answer).await?,
        }
        write.commit().await?;
        Ok(())
    }
}

/// What no proxy could load is refused before anybody is told of it.
async fn refuse_unloadable(write: &mut Write, sealer: &Sealer) -> Result<(), Error> {
    for (key, resource) in configuration::written(write, sealer).await? {
        if let Some(resource) = resource {
            build::check(resource).map_err(|invalid| invalid.under(&key.kind))?;
        }
    }
    Ok(())
}
