//! `/metrics`: the OpenMetrics text of everything that is counted.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet, text},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{METHODS, OUTCOMES, REFUSALS, Telemetry, VERSIONS};

/// What other parts know at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: usize,
    pub(crate) listeners: usize,
    pub(crate) parked: usize,
    pub(crate) upstream_sessions: usize,
    /// On the thread of the commands.
    pub(crate) spawner_tasks: usize,
    pub(crate) revision: u64,
    /// Name of each upstream, and whether it answered when it was last used.
    pub(crate) upstreams: Vec<(String, Option<bool>)>,
    pub(crate) is_draining: bool,
}

impl Telemetry {
    /// All metrics as OpenMetrics text.
    pub(crate) fn scrape(self: &Arc<Self>, gauges: Gauges) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape { telemetry: Arc::clone(self), gauges }));
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        out
    }
}

#[derive(Debug)]
struct Scrape {
    telemetry: Arc<Telemetry>,
    gauges: Gauges,
}

type Encoded = Result<(), std::fmt::Error>;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        self.operations(&mut encoder)?;
        self.refused(&mut encoder)?;
        self.upstreams(&mut encoder)?;
        let Telemetry { connections, calls, .. } = &*self.telemetry;
        let Gauges { upstream_sessions, revision, ref upstreams, is_draining, .. } = self.gauges;
        let Gauges { sessions, listeners, parked, spawner_tasks, .. } = self.gauges;
        let tasks = self.telemetry.runtimes.tasks() + spawner_tasks;
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("lockgate_connections", "Open client connections", connections.load(Relaxed)),
            ("lockgate_operations_running", "Operations being served", calls.load(Relaxed)),
            ("lockgate_sessions", "Legacy sessions used here lately", signed(sessions)),
            ("lockgate_listeners", "Open subscriptions of modern clients", signed(listeners)),
            ("lockgate_calls_parked", "Calls that wait for a client's input", signed(parked)),
            (
                "lockgate_upstream_sessions",
                "Open sessions, connections and processes at upstreams",
                signed(upstream_sessions),
            ),
            ("lockgate_tasks", "Tasks that have begun and not ended", signed(tasks)),
            ("lockgate_upstreams", "Configured upstreams", signed(upstreams.len())),
            (
                "lockgate_config_revision",
                "Revision of the active configuration",
                i64::try_from(revision).unwrap_or(i64::MAX),
            ),
            ("lockgate_draining", "1 while the proxy is leaving", i64::from(is_draining)),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let mut info =
            encoder.encode_descriptor("lockgate_build", "This build", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

impl Scrape {
    fn operations(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let mut metric = encoder.encode_descriptor(
            "mcp_server_operation_duration",
            "From the end of a request's body to the end of its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let versions = METHODS.iter().flat_map(|method| VERSIONS.map(|version| (method, version)));
        let labels = versions
            .flat_map(|(method, version)| OUTCOMES.map(|outcome| (*method, version, outcome)));
        for ((method, version, outcome), cell) in labels.zip(&self.telemetry.operations.0) {
            let Some(histogram) = cell.get() else { continue };
            let labels: Vec<_> = [
                ("mcp_method_name", method),
                ("mcp_protocol_version", version),
                ("error_type", outcome),
            ]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
            let (sum, buckets) = histogram.read();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let mut family = metric.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let mut metric = encoder.encode_descriptor(
            "lockgate_upstream_up",
            "1 if the upstream answered when it was last used, 0 if not; absent before that",
            None,
            MetricType::Gauge,
        )?;
        for (name, is_up) in &self.gauges.upstreams {
            let Some(is_up) = is_up else { continue };
            let labels = [("upstream", name.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&i64::from(*is_up))?;
        }
        Ok(())
    }

    fn refused(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let mut metric = encoder.encode_descriptor(
            "lockgate_requests_refused",
            "Requests that ended before they were operations",
            None,
            MetricType::Counter,
        )?;
        for (reason, counter) in REFUSALS.iter().zip(&self.telemetry.refused) {
            let labels = [("reason", *reason)];
            let mut family = metric.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&counter.load(Relaxed), None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::method::Method;

    #[test]
    fn an_operation_is_found_under_its_labels() {
        let telemetry = Arc::new(Telemetry::default());
        telemetry.operation(&Method::ToolsCall, "").succeed();
        drop(telemetry.operation(&Method::from("made/up"), ""));
        let text = telemetry.scrape(Gauges {
            revision: 7,
            upstreams: vec![("time".to_owned(), Some(true)), ("new".to_owned(), None)],
            ..Gauges::default()
        });
        for line in [
            r#"mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call"} 1"#,
            r#"mcp_server_operation_duration_seconds_count{mcp_method_name="_other",error_type="cancelled"} 1"#,
            "lockgate_config_revision 7",
            r#"lockgate_upstream_up{upstream="time"} 1"#,
            r#"lockgate_requests_refused_total{reason="host"} 0"#,
            "lockgate_operations_running 0",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
        assert!(!text.contains("made/up"));
    }
}
