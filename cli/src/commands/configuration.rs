//! `config check|print`: what a role would run with.

use serde::Serialize;

use super::Context;
use crate::{
    args::ConfigCommand,
    config::{self, Flags, Origin},
    failure::Failure,
    output::Row,
};

#[derive(Serialize)]
struct SettingView {
    name: String,
    value: String,
    from: String,
}

impl Row for SettingView {
    const HEADERS: &'static [&'static str] = &["SETTING", "VALUE", "FROM"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.clone(), self.from.clone()]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result<(), Failure> {
    let settings = config::load(&context.global, Flags::default(), &context.environment)?;
    for notice in &settings.notices {
        context.output.say(&format!("notice: {notice}"));
    }
    match command {
        ConfigCommand::Check => {
            context.output.say("the configuration is valid");
            Ok(())
        }
        ConfigCommand::Print => {
            let rows = settings.printed.into_iter().map(|(name, value, origin)| SettingView {
                name: name.to_owned(),
                value,
                from: match origin {
                    Origin::Flag => "flag".to_owned(),
                    Origin::Environment(name) => format!("environment {name}"),
                    Origin::File(line) => format!("file, line {line}"),
                    Origin::Default => "default".to_owned(),
                },
            });
            context.output.list(&rows.collect::<Vec<_>>(), "settings")
        }
    }
}
