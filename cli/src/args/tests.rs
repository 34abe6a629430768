//! Everything that the documents promise can be typed.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Command {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

fn refused(line: &str) -> String {
    Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_first_steps_can_be_typed_as_documented() {
    for line in [
        "lockgate up",
        "lockgate up --listen 127.0.0.1:5000 --listen [::1]:5000 --data-dir /tmp/x",
        "lockgate up --allow-stdio=false --database-url postgres://u:p@h/db",
        "lockgate control-plane --listen 127.0.0.1:4445 --sync-listen 0.0.0.0:4447",
        "lockgate data-plane --join lgj_x --control https://h:4447 --allow-stdio --listen 0.0.0.0:1",
        "lockgate create upstream everything --url http://127.0.0.1:3001/mcp",
        "lockgate create upstream time --command uvx --arg mcp-server-time",
        "lockgate create upstream x --command npx --arg -y --arg @scope/server",
        "lockgate create tool clock_tool --url http://h/rpc --method POST --input-schema @schema.json",
        "lockgate create server dev --upstream everything --tool clock_tool",
        "lockgate create server dev --upstream everything --naming bare",
        "lockgate token create --name laptop",
        "lockgate token create-jwt --username admin --exp 10080 --secret my-test-key",
        "lockgate tools call everything-echo --args {\"message\":\"hi\"}",
        "lockgate tools call everything-echo --args @a.json --server dev",
        "lockgate tools list --server dev",
        "lockgate get upstreams -o json",
        "lockgate get upstream time",
        "lockgate get tools --upstream time",
        "lockgate get proxies",
        "lockgate describe server dev",
        "lockgate update upstream time --description x --disable",
        "lockgate delete tool a b",
        "lockgate refresh upstream time",
        "lockgate apply -f - --dry-run",
        "lockgate --data-dir /tmp/x status -o yaml",
        "lockgate proxy join-token --valid 5",
        "lockgate version --client",
        "lockgate config print",
    ] {
        parse(line);
    }
}

#[test]
fn arguments_that_begin_with_a_dash_reach_the_command() {
    let line = "lockgate create upstream x --command npx --arg -y --arg --verbose --arg pkg";
    let Command::Create { object: CreateObject::Upstream(upstream) } = parse(line) else {
        panic!("{line}")
    };
    assert_eq!(upstream.args, ["-y", "--verbose", "pkg"]);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let both = refused("lockgate create upstream x --url http://h/ --command y");
    assert!(both.contains("cannot be used with"), "{both}");
    let neither = refused("lockgate create upstream x");
    assert!(neither.contains("--url <URL>|--command <COMMAND>"), "{neither}");
    let typo = refused("lockgate create upstrem x");
    assert!(typo.contains("'upstream'"), "{typo}");
    let twice = refused("lockgate --data-dir /x --address http://h status");
    assert!(twice.contains("cannot be used with"), "{twice}");
}

#[test]
fn the_commands_are_these() {
    let names =
        Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect::<Vec<_>>();
    insta::assert_snapshot!(names.join(" "), @"up control-plane data-plane connect translate create get describe update delete refresh apply token proxy tools status version config");
}

#[test]
fn durations_are_such_as_clocks_can_be_set_to() {
    for line in [
        "lockgate --timeout 18446744073709551615 status",
        "lockgate translate --stdio x --keep-alive 18446744073709551615",
    ] {
        assert!(refused(line).contains("is not in 1..="), "{line}");
    }
}
