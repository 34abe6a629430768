//! Values as the database takes them, and reading rows by many ids at once.

use sqlx::{AnyConnection, AssertSqlSafe, any::AnyRow};

use super::StoreError;

/// Ids per query; one text for all of them, so that it is prepared once.
pub(crate) const CHUNK: usize = 64;

/// Rows of `{select} IN (ids) {rest}`, in chunks. `select` ends with the
/// column; both texts are our own.
pub(crate) async fn select_in(
    connection: &mut AnyConnection,
    (select, rest): (&'static str, &'static str),
    ids: &[String],
) -> Result<Vec<AnyRow>, StoreError> {
    let places: Vec<String> = (1..=CHUNK).map(|place| format!("${place}")).collect();
    let sql = format!("{select} IN ({}) {rest}", places.join(", "));
    let mut rows = Vec::new();
    for chunk in ids.chunks(CHUNK) {
        let filler = chunk.iter().cycle().take(CHUNK);
        let query = filler.fold(sqlx::query(AssertSqlSafe(sql.clone())), sqlx::query::Query::bind);
        rows.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(rows)
}

/// The `VALUES` of many rows: `($1, $2), ($3, $4), …`.
pub(crate) fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    rows.join(", ")
}

/// A `LIMIT` or a number of rows, as the database takes it.
pub(crate) fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A list as JSON text.
pub(crate) fn list(items: &[String]) -> String {
    serde_json::Value::from(items).to_string()
}

/// The column `state`.
pub(crate) fn state(disabled: Disabled) -> &'static str {
    if disabled.0 { "disabled" } else { "enabled" }
}

/// Whether an object is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disabled(pub(crate) bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_through() {
        assert_eq!(places(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
