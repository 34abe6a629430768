//! Where and of what a result is: without it numbers say nothing.

use std::process::Command;

use serde::Serialize;

/// The machine and the program.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor cores that may be used.
    pub cores: usize,
    /// What the processor calls itself.
    pub cpu: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Commit of the sources, `+` if there were changes beside it.
    pub commit: String,
    /// How the benchmark was started.
    pub command: String,
    /// When, as RFC 3339 has it.
    pub date: String,
    /// Whether this is a build that counts.
    pub profile: &'static str,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_default().trim_matches([':', ' ', '\t']).to_owned()
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
        let words: Vec<_> = std::env::args().skip(1).collect();
        Self {
            cores: cores(),
            cpu: line(&read("/proc/cpuinfo"), "model name"),
            memory: kilobytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(),
            command: ["bench".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" "),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            profile: if cfg!(debug_assertions) { "debug" } else { "optimised" },
        }
    }
}

/// Processor cores that may be used.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let here = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git").arg("-C").arg(here).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // Results that are written are no change of what was measured.
    let changed = git(&["status", "--porcelain", "--", ":/", ":!/tests/bench/results"]);
    let plus = if changed.is_some_and(|changed| !changed.is_empty()) { "+" } else { "" };
    format!("{commit}{plus}")
}
