//! What the benchmark is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use super::runner::Plan;
use super::streams::STREAMS;

const USAGE: &str = "usage: bench [--full] [--quick] [--rounds COUNT] [--slice MILLISECONDS] [--out DIRECTORY] [CASE...]
       bench --rivals [--contextforge VENV] [--agentgateway PROGRAM] [as above]
       bench --streams [COUNT] | --stdio [PROGRAM ARGUMENT...] | --train
       bench --profile FILE";

/// Which cases.
pub(crate) enum Set {
    Gate,
    Full,
    Rivals(Programs),
    Streams(usize),
    Stdio(Vec<String>),
    /// Where perf writes.
    Profile(PathBuf),
    Train,
}

/// Where other gateways are.
#[derive(Clone, Default)]
pub(crate) struct Programs {
    /// A virtual environment that has it.
    pub(crate) contextforge: Option<PathBuf>,
    pub(crate) agentgateway: Option<PathBuf>,
}

/// The words after the program's name.
pub(crate) struct Options {
    pub(crate) set: Set,
    /// Names of cases, or how they begin; none for all.
    cases: Vec<String>,
    pub(crate) is_quick: bool,
    rounds: Option<usize>,
    slice: Option<Duration>,
    /// Where results are written.
    pub(crate) directory: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut words = words.peekable();
        let mut options = Self {
            set: Set::Gate,
            cases: Vec::new(),
            is_quick: false,
            rounds: None,
            slice: None,
            directory: None,
        };
        let mut programs = Programs::default();
        let mut is_of_rivals = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().context(USAGE);
            match word.as_str() {
                "--full" => options.set = Set::Full,
                "--rivals" => is_of_rivals = true,
                "--contextforge" => programs.contextforge = Some(value()?.into()),
                "--agentgateway" => programs.agentgateway = Some(value()?.into()),
                "--quick" => options.is_quick = true,
                "--rounds" => options.rounds = Some(value()?.parse()?),
                "--slice" => options.slice = Some(Duration::from_millis(value()?.parse()?)),
                "--out" => options.directory = Some(value()?.into()),
                "--train" => options.set = Set::Train,
                "--profile" => options.set = Set::Profile(value()?.into()),
                "--stdio" => options.set = Set::Stdio(words.by_ref().collect()),
                "--streams" => {
                    let count = words.next_if(|word| word.parse::<usize>().is_ok());
                    options.set = Set::Streams(count.map_or(Ok(STREAMS), |count| count.parse())?);
                }
                case if !case.starts_with('-') => options.cases.push(word),
                other => bail!("{USAGE}\nnot {other}"),
            }
        }
        if is_of_rivals {
            options.set = Set::Rivals(programs);
        }
        Ok(options)
    }

    /// How long it is measured.
    pub(crate) fn plan(&self) -> Plan {
        let (milliseconds, rounds) = match self.set {
            _ if self.is_quick => (200, 3),
            Set::Gate | Set::Stdio(_) | Set::Streams(_) | Set::Profile(_) | Set::Train => (1500, 8),
            Set::Full => (2000, 5),
            // Some answer few calls a second.
            Set::Rivals(_) => (4000, 5),
        };
        let slice = self.slice.unwrap_or(Duration::from_millis(milliseconds));
        Plan { slice, rounds: self.rounds.unwrap_or(rounds) }
    }

    /// Whether a case was asked for.
    pub(crate) fn wants(&self, case: &str) -> bool {
        let named = |word: &String| case == word || case.starts_with(&format!("{word}-"));
        self.cases.is_empty() || self.cases.iter().any(named)
    }

    /// Whether the results are no whole ones.
    pub(crate) fn is_part(&self) -> bool {
        self.is_quick || !self.cases.is_empty() || self.rounds.is_some() || self.slice.is_some()
    }
}
