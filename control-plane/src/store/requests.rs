//! Remembered answers: a write that is repeated under its `request_id` changes nothing.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{StoreError, Write, row::Row};

/// How long an answer is remembered, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// One write as its caller names it.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// Who asks: ids of different callers never meet.
    pub subject: &'a str,
    pub id: &'a str,
    /// What is asked for, from [`digest`].
    pub digest: String,
    pub now_ms: i64,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Remembered<T> {
    New,
    /// The first answer.
    Answered(T),
    /// The id was used for something else.
    Differs,
}

/// Digest of an operation and everything that decides its outcome.
pub(crate) fn digest(operation: &str, body: &impl Serialize) -> Result<String, StoreError> {
    let mut hash = Sha256::new();
    hash.update(operation.as_bytes());
    hash.update([0]);
    let body = serde_json::to_vec(body).map_err(|error| sqlx::Error::Encode(error.into()))?;
    hash.update(body);
    Ok(hex::encode(hash.finalize()))
}

/// Looks up the answer of an earlier request with the same id.
pub(crate) async fn recall<T: DeserializeOwned>(
    write: &mut Write,
    request: &Request<'_>,
) -> Result<Remembered<T>, StoreError> {
    let row = sqlx::query(
        "SELECT digest, answer FROM remembered_requests
         WHERE subject = $1 AND request_id = $2 AND expire_time_ms > $3",
    )
    .bind(request.subject)
    .bind(request.id)
    .bind(request.now_ms)
    .fetch_optional(write.connection())
    .await?;
    let Some(row) = row else { return Ok(Remembered::New) };
    let row = Row::of("remembered_requests", request.id, &row);
    if row.text("digest")? != request.digest {
        return Ok(Remembered::Differs);
    }
    Ok(Remembered::Answered(row.json("answer")?))
}

/// Keeps the answer, in the transaction of the write itself.
pub(crate) async fn remember<T: Serialize>(
    write: &mut Write,
    request: &Request<'_>,
    answer: &T,
) -> Result<(), StoreError> {
    let answer =
        serde_json::to_string(answer).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query("DELETE FROM remembered_requests WHERE expire_time_ms <= $1")
        .bind(request.now_ms)
        .execute(write.connection())
        .await?;
    sqlx::query(
        "INSERT INTO remembered_requests (subject, request_id, digest, answer, expire_time_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(request.subject)
    .bind(request.id)
    .bind(&request.digest)
    .bind(answer)
    .bind(request.now_ms.saturating_add(KEPT_MS))
    .execute(write.connection())
    .await?;
    Ok(())
}
