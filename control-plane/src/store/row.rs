//! Reading columns: the database may be wrong, and then the error says where.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use sqlx::{Any, Decode, Row as _, Type, any::AnyRow};

use super::StoreError;

/// A row on its way to a domain type.
pub(crate) struct Row<'r> {
    table: &'static str,
    id: String,
    columns: &'r AnyRow,
}

impl<'r> Row<'r> {
    /// A row whose key is its column `id`.
    pub(crate) fn new(table: &'static str, row: &'r AnyRow) -> Result<Self, StoreError> {
        let id = Self::of(table, "?", row).text("id")?;
        Ok(Self { table, id, columns: row })
    }

    /// A row with another key.
    pub(crate) fn of(table: &'static str, id: &str, row: &'r AnyRow) -> Self {
        Self { table, id: id.to_owned(), columns: row }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The columns, to be read as a row of another table.
    pub(super) fn columns(&self) -> &'r AnyRow {
        self.columns
    }

    /// The column `state`.
    pub(crate) fn disabled(&self) -> Result<bool, StoreError> {
        self.word("state", |word| match word {
            "enabled" => Some(false),
            "disabled" => Some(true),
            _ => None,
        })
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn optional_time(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    /// A number that is never negative.
    pub(crate) fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|error| self.corrupt(column, error))
    }

    /// A text with a grammar.
    pub(crate) fn parse<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        self.text(column)?.parse().map_err(|error| self.corrupt(column, error))
    }

    /// A word out of a fixed set.
    pub(crate) fn word<T>(
        &self,
        column: &'static str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        let text = self.text(column)?;
        known(&text).ok_or_else(|| self.corrupt(column, format!("unknown word `{text}`")))
    }

    /// JSON text of one of our own types.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn corrupt(
        &self,
        column: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        let Self { table, id, columns: _ } = self;
        StoreError::Corrupt { table, column, row: id.clone(), source: source.into() }
    }

    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: for<'q> Decode<'q, Any> + Type<Any>,
    {
        self.columns.try_get(column).map_err(|error| self.corrupt(column, error))
    }
}
