//! The recorded counts, and what is judged by them.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How far a count may be from its budget, in either direction: what became cheaper is recorded
/// anew, so that it stays so.
pub(crate) const TOLERANCE_PERCENT: u64 = 3;

/// Counts, and the compiler whose code was counted: of another one they say nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) compiler: String,
    instructions: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Less,
    More,
    /// It has no budget yet.
    New,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Held => "held",
            Self::Less => "LESS",
            Self::More => "MORE",
            Self::New => "NEW",
        })
    }
}

impl Budget {
    pub(crate) fn new(counted: Vec<(&str, u64)>) -> Self {
        let counted = counted.into_iter().map(|(name, count)| (name.to_owned(), count));
        Self { compiler: this_compiler(), instructions: counted.collect() }
    }

    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions/budget.json")
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        Ok(fs::write(Self::path(), serde_json::to_string_pretty(self)? + "\n")?)
    }

    pub(crate) fn is_of(&self, compiler: &str) -> bool {
        self.compiler == compiler
    }

    pub(crate) fn of(&self, name: &str) -> Option<u64> {
        self.instructions.get(name).copied()
    }

    pub(crate) fn judge(&self, name: &str, counted: u64) -> Verdict {
        let Some(budget) = self.of(name) else { return Verdict::New };
        if counted * 100 > budget * (100 + TOLERANCE_PERCENT) {
            Verdict::More
        } else if counted * 100 < budget * (100 - TOLERANCE_PERCENT) {
            Verdict::Less
        } else {
            Verdict::Held
        }
    }
}

/// As it names itself, with the processor that it wrote for, and what libraries look for there.
pub(crate) fn this_compiler() -> String {
    let run = std::process::Command::new("rustc").arg("--version").output();
    let version = run.map(|run| String::from_utf8_lossy(&run.stdout).trim().to_owned());
    #[cfg(target_arch = "x86_64")]
    let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let has_avx2 = false;
    let extension = if has_avx2 { " with AVX2" } else { "" };
    format!("{}, {}{extension}", version.unwrap_or_default(), std::env::consts::ARCH)
}
