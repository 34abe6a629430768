//! What the benchmark is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use super::runner::Plan;
use super::streams::STREAMS;

const USAGE: &str = "usage: bench [--quick] [--out DIRECTORY] [CASE...]
       bench --streams [COUNT] | --stdio [PROGRAM ARGUMENT...] | --train";

/// Which cases.
pub(crate) enum Set {
    Gate,
    Streams(usize),
    Stdio(Vec<String>),
    Train,
}

/// The words after the program's name.
pub(crate) struct Options {
    pub(crate) set: Set,
    /// Names of cases, or how they begin; none for all.
    cases: Vec<String>,
    pub(crate) is_quick: bool,
    pub(crate) plan: Plan,
    /// Where results are written.
    pub(crate) directory: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut words = words.peekable();
        let plan = Plan { slice: Duration::from_millis(1500), rounds: 8 };
        let (set, cases) = (Set::Gate, Vec::new());
        let mut options = Self { set, cases, is_quick: false, plan, directory: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => {
                    options.is_quick = true;
                    options.plan = Plan { slice: Duration::from_millis(200), rounds: 3 };
                }
                "--rounds" => options.plan.rounds = words.next().context(USAGE)?.parse()?,
                "--slice" => {
                    let milliseconds = words.next().context(USAGE)?.parse()?;
                    options.plan.slice = Duration::from_millis(milliseconds);
                }
                "--out" => options.directory = Some(words.next().context(USAGE)?.into()),
                "--train" => options.set = Set::Train,
                "--stdio" => options.set = Set::Stdio(words.by_ref().collect()),
                "--streams" => {
                    let count = words.next_if(|word| word.parse::<usize>().is_ok());
                    options.set = Set::Streams(count.map_or(Ok(STREAMS), |count| count.parse())?);
                }
                case if !case.starts_with('-') => options.cases.push(word),
                other => bail!("{USAGE}\nnot {other}"),
            }
        }
        Ok(options)
    }

    /// Whether a case was asked for.
    pub(crate) fn wants(&self, case: &str) -> bool {
        let named = |word: &String| case == word || case.starts_with(&format!("{word}-"));
        self.cases.is_empty() || self.cases.iter().any(named)
    }

    /// Whether the results are no whole ones.
    pub(crate) fn is_part(&self) -> bool {
        self.is_quick || !self.cases.is_empty()
    }
}
