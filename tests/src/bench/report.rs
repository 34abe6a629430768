//! The whole run: as text for people, as JSON for everybody, as charts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::case::{Bound, LOCKGATE};
use super::chart::{self, Bar, Panel};
use super::machine::Machine;
use super::outcome::{CaseOutcome, Finding, Round, WayOutcome};
use super::statistics::{Spread, float};

/// Everything that is known after a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which set of cases: `gate`, `full`, `rivals`.
    pub set: String,
    /// Where, of what and when.
    pub machine: Machine,
    /// Slices that each way had in each case.
    pub rounds: usize,
    /// Seconds of each.
    pub slice: f64,
    /// What counts, targets first.
    pub findings: Vec<Finding>,
    /// All that was measured.
    pub cases: Vec<CaseOutcome>,
}

impl Report {
    /// Ratios first, then what they are made of.
    pub fn text(&self) -> String {
        let Machine { cores, cpu, memory, kernel, commit, command, date, profile } = &self.machine;
        let mut text = format!(
            "{} · {date} · {cores} cores of {cpu} · {} · Linux {kernel} · commit {commit} ({profile}) · `{command}`\n\
             {} rounds of {} s for each way, in turns; medians of rounds, quartiles in brackets\n",
            self.set,
            megabytes(float(*memory)),
            self.rounds,
            self.slice
        );
        if *profile == "debug" {
            text.push_str("A debug build: these numbers say nothing.\n");
        }
        let (judged, others): (Vec<_>, Vec<_>) =
            self.findings.iter().partition(|finding| finding.target.is_some());
        text.push_str("\n| target | measured | limit | |\n|---|---|---|---|\n");
        text.extend(judged.iter().map(|finding| line_of(finding)));
        if !others.is_empty() {
            text.push_str("\n| beside | measured |\n|---|---|\n");
        }
        for it in others {
            text.push_str(&format!("| {}: {} | {} |\n", it.case, it.what, shown(it)));
        }
        if !self.cases.is_empty() {
            text.push_str("\n| case | way | calls/s | MB/s | p50 µs | p99 µs | p99.9 µs | CPU µs per call | RSS before, peak, after MB | load generator | room above |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
        }
        for case in &self.cases {
            text.extend(case.ways.iter().map(|way| row(case, way, *cores)));
        }
        text
    }

    /// Whether no target was missed.
    pub fn is_held(&self) -> bool {
        self.findings.iter().all(|finding| finding.held != Some(false))
    }

    /// Writes `NAME.json`, `NAME.md` and charts; gives their paths.
    pub fn write(&self, directory: &Path, name: &str) -> anyhow::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(directory)?;
        let mut files = vec![
            (format!("{name}.json"), format!("{}\n", serde_json::to_string_pretty(self)?)),
            (format!("{name}.md"), self.text()),
        ];
        let subtitle = format!(
            "{} cores of {} · commit {} · {}",
            self.machine.cores, self.machine.cpu, self.machine.commit, self.machine.date
        );
        let title = format!("Lockgate against the bare proxy ({})", self.set);
        files.push((
            format!("{name}-ratios.svg"),
            chart::panels(&title, &subtitle, &self.ratio_panels()),
        ));
        let title = format!("What each way does ({})", self.set);
        files.push((
            format!("{name}-absolute.svg"),
            chart::panels(&title, &subtitle, &self.absolute_panels()),
        ));
        files
            .into_iter()
            .map(|(name, text)| {
                let path = directory.join(name);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
                Ok(path)
            })
            .collect()
    }

    /// A panel for each kind of finding, a bar for each case.
    fn ratio_panels(&self) -> Vec<Panel> {
        let mut panels: Vec<Panel> = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.unit == "x") {
            let bar = Bar {
                label: finding.case.clone(),
                value: finding.value,
                limit: finding.target.map(Bound::limit),
                is_ours: finding.held != Some(false),
            };
            match panels.iter_mut().find(|panel| panel.title == finding.what) {
                Some(panel) => panel.bars.push(bar),
                None => {
                    panels.push(Panel { title: finding.what.clone(), unit: "×", bars: vec![bar] });
                }
            }
        }
        panels
    }

    fn absolute_panels(&self) -> Vec<Panel> {
        type Of = fn(&Round) -> f64;
        let quantities: [(&str, &'static str, Of); 3] = [
            ("calls/s", "/s", Round::rate),
            ("p99", "µs", |round| round.p99),
            ("CPU per call", "µs", Round::cpu_per_call),
        ];
        let panels = self.cases.iter().flat_map(|case| {
            quantities.iter().map(move |(what, unit, of)| Panel {
                title: format!("{}: {what}", case.case.name),
                unit,
                bars: case
                    .ways
                    .iter()
                    .map(|way| Bar {
                        label: way.way.clone(),
                        value: way.spread(of),
                        limit: None,
                        is_ours: way.way == LOCKGATE,
                    })
                    .collect(),
            })
        });
        panels.collect()
    }
}

fn line_of(finding: &Finding) -> String {
    let (sign, limit) = match finding.target {
        Some(Bound::AtMost(limit)) => ("<=", limit),
        Some(Bound::AtLeast(limit)) => (">=", limit),
        None => ("", 0.0),
    };
    let verdict = if finding.held == Some(true) { "held" } else { "MISSED" };
    let Finding { case, what, unit, .. } = finding;
    format!("| {case}: {what} | {} | {sign} {limit} {unit} | {verdict} |\n", shown(finding))
}

fn shown(finding: &Finding) -> String {
    let Spread { median, low, high } = finding.value;
    let unit = finding.unit;
    if (high - low).abs() < f64::EPSILON {
        return format!("{median:.2} {unit}");
    }
    format!("{median:.2} {unit} ({low:.2} to {high:.2})")
}

fn row(case: &CaseOutcome, way: &WayOutcome, cores: usize) -> String {
    let middle = |of: fn(&Round) -> f64| way.spread(of).median;
    let rate = middle(Round::rate);
    let direct = case.ways.first().map(|direct| direct.spread(Round::rate).median / rate);
    let memory = [way.memory_before.now, way.memory.peak, way.memory.now]
        .map(|bytes| format!("{:.1}", float(bytes) / 1e6));
    let changes = match way.changes {
        0 => String::new(),
        count => format!(" ({count} changes meanwhile)"),
    };
    format!(
        "| {} | {}{changes} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.0} % of {cores} cores | {:.2} x |\n",
        case.case.name,
        way.way,
        rate * float(case.bytes) / 1e6,
        middle(|round| round.p50),
        middle(|round| round.p99),
        middle(|round| round.p999),
        middle(Round::cpu_per_call),
        memory.join(", "),
        way.client_share(cores) * 100.0,
        direct.unwrap_or_default()
    )
}

/// Bytes as people read them.
pub fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_said_and_counts() {
        let mut report = Report {
            set: "gate".to_owned(),
            machine: Machine::here(),
            rounds: 1,
            slice: 0.1,
            findings: vec![Finding::plain("idle", "RSS", 19.5, "MB", Some(Bound::AtMost(20.0)))],
            cases: Vec::new(),
        };
        assert!(report.is_held());
        assert!(report.text().contains("| idle: RSS | 19.50 MB | <= 20 MB | held |"));
        report.findings.push(Finding::plain("c", "p99", 2.0, "x", Some(Bound::AtMost(1.5))));
        assert!(!report.is_held());
        assert!(report.text().contains("<= 1.5 x | MISSED |"));
        let directory = tempfile::tempdir().unwrap();
        let written = report.write(directory.path(), "gate").unwrap();
        assert_eq!(written.len(), 4);
        let json = std::fs::read_to_string(directory.path().join("gate.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["findings"][1]["held"], false);
    }
}
