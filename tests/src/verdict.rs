//! What the conformance suite found, by its own notes and not by its exit code: that of a scenario
//! which was skipped, or only warned of something, is that of one that passed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What need not succeed, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excused {
    /// Checks that the suite may leave out or warn of: ids, with the beginning of what it says if
    /// one id is of several; `*` stands for any rest.
    unjudged: BTreeMap<String, String>,
}

/// One check as the suite notes it.
#[derive(Debug, Deserialize)]
struct Check {
    id: String,
    status: Status,
    #[serde(default, rename = "errorMessage")]
    message: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Success,
    Failure,
    Warning,
    Skipped,
    /// Says something, judges nothing.
    Info,
}

impl Excused {
    /// Reads a checked-in list, in which everything has a reason.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let all: Self = serde_json::from_str(&text)?;
        for (id, reason) in &all.unjudged {
            ensure!(!reason.trim().is_empty(), "{id} is excused without a reason");
        }
        Ok(all)
    }

    fn may_be_unjudged(&self, check: &Check) -> bool {
        let said = format!("{} {}", check.id, check.message);
        self.unjudged.keys().any(|known| match known.strip_suffix('*') {
            Some(beginning) => said.starts_with(beginning),
            None => *known == check.id,
        })
    }
}

/// Judges what a run noted below `directory`: gives how many scenarios it was, or all that did not
/// succeed.
pub fn judge(directory: &Path, excused: &Excused) -> anyhow::Result<usize> {
    let notes = notes_below(directory)?;
    ensure!(!notes.is_empty(), "the suite ran nothing");
    let mut problems = Vec::new();
    for note in &notes {
        let scenario = note.parent().and_then(Path::file_name).unwrap_or_default();
        let text = std::fs::read_to_string(note)?;
        let checks: Vec<Check> = serde_json::from_str(&text)
            .with_context(|| format!("{}: {text}", scenario.display()))?;
        let found = problems_of(&checks, excused);
        problems.extend(found.into_iter().map(|it| format!("{}: {it}", scenario.display())));
    }
    ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Ok(notes.len())
}

fn problems_of(checks: &[Check], excused: &Excused) -> Vec<String> {
    let is_bad = |check: &&Check| match check.status {
        Status::Success | Status::Info => false,
        Status::Failure => true,
        Status::Warning | Status::Skipped => !excused.may_be_unjudged(check),
    };
    let bad = checks.iter().filter(is_bad);
    let mut problems: Vec<_> =
        bad.map(|it| format!("{:?} {} {}", it.status, it.id, it.message)).collect();
    let is_judged = checks.iter().any(|check| check.status == Status::Success);
    let is_excused = checks.iter().any(|check| excused.may_be_unjudged(check));
    if !is_judged && !is_excused && problems.is_empty() {
        problems.push("nothing was checked".to_owned());
    }
    problems
}

/// The notes of all scenarios.
fn notes_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut notes = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            notes.extend(notes_below(&entry.path())?);
        } else if entry.file_name() == "checks.json" {
            notes.push(entry.path());
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks are an id, perhaps with what is said, and a status.
    fn judged(checks: &[(&str, &str)]) -> anyhow::Result<usize> {
        let excused: Excused = serde_json::from_str(
            r#"{"unjudged": {"known": "why", "group-*": "why", "one this *": "why"}}"#,
        )?;
        let directory = tempfile::tempdir()?;
        let scenario = directory.path().join("server-a");
        std::fs::create_dir(&scenario)?;
        let checks: Vec<_> = checks
            .iter()
            .map(|(check, status)| {
                let (id, said) = check.split_once(' ').unwrap_or((check, ""));
                serde_json::json!({"id": id, "status": status, "errorMessage": said})
            })
            .collect();
        std::fs::write(scenario.join("checks.json"), serde_json::to_string(&checks)?)?;
        judge(directory.path(), &excused)
    }

    #[test]
    fn only_what_succeeded_or_is_excused_passes() {
        for good in [
            &[("a", "SUCCESS")][..],
            &[("a", "SUCCESS"), ("b", "INFO"), ("known", "WARNING"), ("group-1", "SKIPPED")],
            &[("known", "SKIPPED")],
            &[("known", "INFO")],
            &[("a", "SUCCESS"), ("one this and", "SKIPPED")],
        ] {
            assert!(judged(good).is_ok_and(|scenarios| scenarios == 1), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("a", "INFO")],
            &[("a", "SUCCESS"), ("b", "WARNING")],
            &[("a", "SUCCESS"), ("b", "SKIPPED")],
            &[("a", "SUCCESS"), ("known", "FAILURE")],
            &[("a", "SUCCESS"), ("one that", "SKIPPED")],
            &[("a", "SUCCESS"), ("b", "UNHEARD_OF")],
        ] {
            assert!(judged(bad).is_err(), "{bad:?}");
        }
        let nothing = tempfile::tempdir().unwrap();
        assert!(judge(nothing.path(), &Excused::default()).is_err());
    }
}
