//! `/health`, `/ready` and `/metrics`: for orchestrators and monitoring.

use http::{Response, StatusCode};

use super::Edge;
use crate::{
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
        if self.drain.is_leaving() {
            reasons.push(r#""the proxy is shutting down""#);
        }
        if reasons.is_empty() {
            return response::json(StatusCode::OK, br#"{"status":"ready"}"#.as_slice().into());
        }
        let body = format!(r#"{{"status":"unavailable","reasons":[{}]}}"#, reasons.join(","));
        response::json(StatusCode::SERVICE_UNAVAILABLE, body.into())
    }

    pub(super) fn metrics(&self) -> Response<Body> {
        let gauges = Gauges { is_draining: self.drain.is_leaving(), ..Gauges::default() };
        response::text(self.telemetry.scrape(gauges), OPEN_METRICS)
    }
}
