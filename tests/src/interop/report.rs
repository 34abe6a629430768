//! The matrix as a table, and whether it is as it should be.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, bail};

use super::{Abilities, CLIENTS, Cell, Part, SERVERS, Transport, directory};

/// What works directly and not through the gateway: `client/transport/server/feature`, each a
/// name, some with commas between or `*` for any, to the reason; `gaps.json`.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<String, String>);

impl Gaps {
    /// The list that may only shrink.
    pub fn load() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(directory().join("gaps.json"))?;
        Ok(Self(serde_json::from_str(&text).context("gaps.json")?))
    }

    /// Whether a place, such as `["ts1", "http", "git", "call"]`, is known not to work.
    pub(super) fn has(&self, place: [&str; 4]) -> bool {
        self.0.keys().any(|pattern| fits(pattern, place))
    }
}

fn fits(pattern: &str, place: [&str; 4]) -> bool {
    let mut parts = pattern.split('/');
    let names = |part: &str, word: &str| part == "*" || part.split(',').any(|name| name == word);
    place.into_iter().all(|word| parts.next().is_some_and(|part| names(part, word)))
}

/// What a run through the gateway gave.
#[derive(Debug)]
pub struct Report {
    /// Every feature that was tried.
    pub cells: Vec<Cell>,
    /// What was expected of whom.
    pub abilities: Abilities,
    /// What is known not to work.
    pub gaps: Gaps,
}

impl Report {
    /// Fails with every cell that fails and is no known gap, and with gaps that are none.
    pub fn judge(&self, part: Part) -> anyhow::Result<()> {
        let failed = self.cells.iter().filter(|cell| cell.line.error.is_some());
        let mut wrong: Vec<_> = self.unknown().map(Cell::to_string).collect();
        // Only the whole matrix has every cell of a pattern.
        if matches!(part, Part::Whole) {
            let stale = |(pattern, _): &(&String, &String)| {
                !failed.clone().any(|cell| fits(pattern, cell.place()))
            };
            let stale = self.gaps.0.iter().filter(stale);
            wrong.extend(stale.map(|(pattern, _)| format!("{pattern} works: it is no gap")));
        }
        if self.cells.is_empty() {
            bail!("nothing was tried");
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
    }

    /// What failed and is no known gap.
    fn unknown(&self) -> impl Iterator<Item = &Cell> {
        let failed = self.cells.iter().filter(|cell| cell.line.error.is_some());
        failed.filter(|cell| !self.gaps.has(cell.place()))
    }

    /// How many of the features work that both can do, such as `11/11`.
    fn share(&self, client: &str, transport: Transport, server: &str) -> String {
        let cells = self.cells.iter().filter(|cell| {
            cell.client == client && cell.transport == transport && cell.line.server == server
        });
        let (all, good) = (cells.clone(), cells.filter(|cell| cell.line.error.is_none()));
        match (good.count(), all.count()) {
            (_, 0) => "–".to_owned(),
            (good, all) => format!("{good}/{all}"),
        }
    }
}

impl Cell {
    fn place(&self) -> [&str; 4] {
        [self.client, self.transport.name(), &self.line.server, &self.line.feature]
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, transport, line } = self;
        let reason = line.error.as_deref().unwrap_or("works");
        let reason: String = reason.lines().next().unwrap_or_default().chars().take(300).collect();
        write!(out, "{client}/{}/{}/{}: {reason}", transport.name(), line.server, line.feature)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "Features that work through the gateway, of those that both sides can do:\n"
        )?;
        let names = SERVERS.iter().map(|server| server.name).collect::<Vec<_>>();
        writeln!(out, "| client | transport | {} |", names.join(" | "))?;
        writeln!(out, "|---|---|{}", "---|".repeat(names.len()))?;
        for client in &CLIENTS {
            for transport in Transport::ALL {
                let shares: Vec<_> =
                    names.iter().map(|name| self.share(client.name, transport, name)).collect();
                let shares = shares.join(" | ");
                writeln!(out, "| {} | {} | {shares} |", client.name, transport.name())?;
            }
        }
        writeln!(out, "\nWhat cannot be done directly either (direct.json):")?;
        for line in self.abilities.missing() {
            writeln!(out, "- {line}")?;
        }
        let failed = self.cells.iter().filter(|cell| cell.line.error.is_some());
        writeln!(out, "\nWhat failed ({} are no known gaps):", self.unknown().count())?;
        for cell in failed {
            writeln!(out, "- {cell}")?;
        }
        writeln!(out, "\nKnown gaps (gaps.json):")?;
        for (pattern, reason) in &self.gaps.0 {
            writeln!(out, "- {pattern}: {reason}")?;
        }
        Ok(())
    }
}
