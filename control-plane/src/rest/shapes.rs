//! Parts that several of ContextForge's answers share.

use axum::{Extension, extract::Query};
use serde::{Deserialize, Serialize};

use crate::{
    caller::Caller,
    error::Error,
    registry::{Listed, Page},
    rest::body,
};

pub(crate) type Who = Extension<Caller>;

/// Most objects that are read in one go.
const PAGE: u32 = 1000;

/// `?include_inactive=&tags=` of lists.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default, alias = "includeInactive")]
    include_inactive: bool,
    tags: Option<String>,
}

pub(crate) type Listing = Query<ListQuery>;

impl ListQuery {
    /// Whether an object with these tags is wanted.
    pub(crate) fn wants(&self, tags: &[String]) -> bool {
        let wanted = self.tags.clone().map(|tags| body::Listed::Text(tags).items());
        wanted.is_none_or(|wanted| wanted.is_empty() || wanted.iter().any(|tag| tags.contains(tag)))
    }

    pub(crate) fn hides_inactive(&self) -> bool {
        !self.include_inactive
    }
}

/// Every object, page by page: ContextForge's lists are whole.
pub(crate) async fn all<T, F>(mut page: impl FnMut(Page) -> F) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<Listed<T>, Error>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let listed = page(Page { size: PAGE, token }).await?;
        items.extend(listed.items);
        if listed.next_page_token.is_empty() {
            return Ok(items);
        }
        token = listed.next_page_token;
    }
}

/// A time as ISO 8601 in UTC.
pub(crate) fn time(ms: i64) -> Option<String> {
    let known = Some(ms).filter(|ms| *ms != 0)?;
    jiff::Timestamp::from_millisecond(known).ok().map(|time| time.to_string())
}

/// Figures of use. They come with metrics per tool; until
/// then they say truly that nothing was counted.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metrics {
    total_executions: u64,
    successful_executions: u64,
    failed_executions: u64,
    failure_rate: f64,
    min_response_time: Option<f64>,
    max_response_time: Option<f64>,
    avg_response_time: Option<f64>,
    last_execution_time: Option<String>,
}

/// Who made and changed an object, as far as it is recorded.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Provenance {
    created_by: Option<String>,
    created_from_ip: Option<String>,
    created_via: Option<String>,
    created_user_agent: Option<String>,
    modified_by: Option<String>,
    modified_from_ip: Option<String>,
    modified_via: Option<String>,
    modified_user_agent: Option<String>,
    import_batch_id: Option<String>,
    federation_source: Option<String>,
    version: u64,
}

impl Provenance {
    pub(crate) fn of(version: u64) -> Self {
        Self { version, ..Self::default() }
    }
}

/// Answer of a deletion.
pub(crate) fn deleted(noun: &str, id: &str) -> axum::Json<serde_json::Value> {
    let message = format!("{noun} {id} deleted successfully");
    axum::Json(serde_json::json!({ "status": "success", "message": message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hide_the_inactive_and_pick_tags() {
        let tags = ["ai".to_owned()];
        let query = ListQuery::default();
        assert!(query.wants(&tags) && query.hides_inactive());
        let query = ListQuery { include_inactive: true, tags: Some("x,ai".to_owned()) };
        assert!(query.wants(&tags) && !query.wants(&[]) && !query.hides_inactive());
    }

    #[test]
    fn times_are_iso() {
        assert_eq!(time(1_800_000_000_123).unwrap(), "2027-01-15T08:00:00.123Z");
        assert_eq!(time(0), None);
    }
}
