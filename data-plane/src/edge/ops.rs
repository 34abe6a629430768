//! `/health`, `/ready` and `/metrics`: for orchestrators and monitoring.

use http::{HeaderMap, Response, StatusCode};
use proto::{Permission, policy};

use super::{Edge, mcp::now_ms};
use crate::{
    error::Failure,
    snapshot::table::Table,
    telemetry::Gauges,
    transport::{body::Body, response},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process answers, and that is all it says.
pub(super) fn health() -> Response<Body> {
    response::json(StatusCode::OK, br#"{"status":"healthy"}"#.as_slice().into())
}

impl Edge {
    /// Whether new requests should be sent here, and why not.
    pub(super) fn ready(&self) -> Response<Body> {
        let mut reasons = Vec::new();
        if self.current.load().is_none() {
            reasons.push(r#""no configuration yet""#);
        }
        if self.drain.is_leaving() {
            reasons.push(r#""the proxy is shutting down""#);
        }
        if reasons.is_empty() {
            return response::json(StatusCode::OK, br#"{"status":"ready"}"#.as_slice().into());
        }
        let body = format!(r#"{{"status":"unavailable","reasons":[{}]}}"#, reasons.join(","));
        response::json(StatusCode::SERVICE_UNAVAILABLE, body.into())
    }

    /// Metrics for the administrator, on a listener that everybody reaches.
    pub(super) async fn metrics_for(&self, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        let table = self.current.load().ok_or(Failure::NotConfigured)?;
        let principal = self.principal(&table, headers, now_ms()).await?;
        if !policy::is_allowed(principal.role, Permission::OperationsRead) {
            return Err(Failure::Forbidden);
        }
        Ok(self.metrics())
    }

    pub(super) fn metrics(&self) -> Response<Body> {
        let table = self.current.load();
        let gauges = Gauges {
            sessions: self.sessions.len(),
            listeners: self.sessions.listener_count(),
            parked: self.parked.len(),
            upstream_sessions: self.upstreams.open_count(),
            spawner_tasks: self.upstreams.spawner_tasks(),
            revision: table.as_ref().map_or(0, |table| table.position.revision),
            upstreams: table.map(|table| self.upstreams_of(&table)).unwrap_or_default(),
            is_draining: self.drain.is_leaving(),
        };
        response::text(self.telemetry.scrape(gauges), OPEN_METRICS)
    }

    fn upstreams_of(&self, table: &Table) -> Vec<(String, Option<bool>)> {
        let health = self.upstreams.health();
        let is_up = |id: &str| health.iter().find(|it| it.upstream_id == id).map(|it| it.is_up);
        table.upstreams.values().map(|it| (it.name.to_string(), is_up(&it.id))).collect()
    }
}
