//! What people and programs read: data on stdout, talk on stderr. The only place that prints.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{args::Format, failure::Failure};

/// Something that can be listed.
pub(crate) trait Row: Serialize {
    const HEADERS: &'static [&'static str];
    fn cells(&self) -> Vec<String>;
    fn name(&self) -> &str;
}

/// Where answers go, in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    talk: Talk,
}

/// Whether there is more on stderr than errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    Usual,
    ErrorsOnly,
}

impl Output {
    pub(crate) fn new(format: Format, talk: Talk) -> Self {
        Self { format, talk }
    }

    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// A list; an empty table says so on stderr.
    pub(crate) fn list<R: Row>(self, rows: &[R], plural: &str) -> Result<(), Failure> {
        if rows.is_empty() && self.format == Format::Table {
            self.say(&format!("no {plural}"));
            return Ok(());
        }
        write_stdout(&render_list(self.format, rows)?)
    }

    pub(crate) fn one<R: Row>(self, row: &R) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Name => render_list(self.format, std::slice::from_ref(row))?,
            Format::Json => pretty(row)?,
            Format::Yaml => yaml(row)?,
        };
        write_stdout(&text)
    }

    /// Everything about one object; a table has no room for that, so it is YAML.
    pub(crate) fn described<R: Row>(self, row: &R) -> Result<(), Failure> {
        match self.format {
            Format::Table => write_stdout(&yaml(row)?),
            Format::Name | Format::Json | Format::Yaml => self.one(row),
        }
    }

    /// Names and values below each other; JSON and YAML get `value` itself.
    pub(crate) fn facts<T: Serialize>(
        self,
        facts: &[(&str, String)],
        value: &T,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => render_facts(facts),
            Format::Name => facts.first().map(|(_, name)| format!("{name}\n")).unwrap_or_default(),
            Format::Json => pretty(value)?,
            Format::Yaml => yaml(value)?,
        };
        write_stdout(&text)
    }

    /// Text as it is, with a line end; as JSON it is a string.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name => write_line(text),
            Format::Json => write_stdout(&pretty(&text)?),
            Format::Yaml => write_stdout(&yaml(&text)?),
        }
    }

    /// JSON text as it came, byte for byte; YAML is made from it.
    pub(crate) fn json(self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name | Format::Json => write_line(text),
            Format::Yaml => write_stdout(&yaml_of(text)?),
        }
    }

    /// One line for the person in front, never data.
    pub(crate) fn say(self, line: &str) {
        if self.talk == Talk::Usual {
            write_stderr(line);
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        match self.format {
            Format::Json | Format::Yaml => write_stderr(&failure.to_json()),
            Format::Table | Format::Name => write_stderr(&format!("error: {failure}")),
        }
    }
}

/// Standard output as a pipe of messages, for commands that are servers.
pub(crate) fn pipe() -> tokio::io::Stdout {
    tokio::io::stdout()
}

fn render_list<R: Row>(format: Format, rows: &[R]) -> Result<String, Failure> {
    match format {
        Format::Table => {
            let cells = rows.iter().map(Row::cells).collect::<Vec<_>>();
            Ok(render_table(R::HEADERS, &cells))
        }
        Format::Name => Ok(lines(rows.iter().map(Row::name))),
        Format::Json => pretty(&rows),
        Format::Yaml => yaml(&rows),
    }
}

/// Columns without borders, as wide as they need to be; for pipes and for people.
fn render_table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.to_vec()).add_rows(rows.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let text = table.to_string();
    lines(text.lines().map(str::trim_end))
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn render_facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let line = |(name, value): &(&str, String)| {
        let name = format!("{name}:");
        let value = value.trim_end().replace('\n', &format!("\n{:width$}  ", ""));
        format!("{name:width$}  {value}").trim_end().to_owned() + "\n"
    };
    facts.iter().map(line).collect()
}

fn pretty<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?;
    Ok(text + "\n")
}

/// Through JSON, because embedded JSON texts are part of the value.
fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    yaml_of(&serde_json::to_string(value).map_err(|error| unprintable(&error))?)
}

fn yaml_of(json: &str) -> Result<String, Failure> {
    let tree = crate::tree::from_json(json)?;
    serde_saphyr::to_string(&tree).map_err(|error| unprintable(&error))
}

fn unprintable(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        crate::failure::Exit::General,
        "internal",
        format!("the answer cannot be printed: {error}"),
    )
}

fn write_line(text: &str) -> Result<(), Failure> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write_stdout(&format!("{text}{end}"))
}

fn write_stderr(line: &str) {
    // Nobody can be told that stderr is closed.
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// A reader that closed the pipe has seen enough; that is no failure.
fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(crate::failure::Exit::General, "io", format!("stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Fruit {
        name: String,
        weight: u32,
    }

    impl Row for Fruit {
        const HEADERS: &'static [&'static str] = &["NAME", "WEIGHT"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.clone(), self.weight.to_string()]
        }

        fn name(&self) -> &str {
            &self.name
        }
    }

    fn fruits() -> Vec<Fruit> {
        vec![
            Fruit { name: "apple".to_owned(), weight: 150 },
            Fruit { name: "fig".to_owned(), weight: 40 },
        ]
    }

    #[test]
    fn the_same_rows_in_four_forms() {
        let show = |format| render_list(format, &fruits()).unwrap();
        insta::assert_snapshot!(show(Format::Table), @r"
        NAME    WEIGHT
        apple   150
        fig     40
        ");
        insta::assert_snapshot!(show(Format::Name), @r"
        apple
        fig
        ");
        insta::assert_snapshot!(show(Format::Json), @r#"
        [
          {
            "name": "apple",
            "weight": 150
          },
          {
            "name": "fig",
            "weight": 40
          }
        ]
        "#);
        insta::assert_snapshot!(show(Format::Yaml), @r"
        - name: apple
          weight: 150
        - name: fig
          weight: 40
        ");
    }

    #[test]
    fn facts_are_aligned_and_long_values_indented() {
        let facts = [("name", "time".to_owned()), ("description", "two\nlines".to_owned())];
        insta::assert_snapshot!(render_facts(&facts), @r"
        name:         time
        description:  two
                      lines
        ");
    }
}
