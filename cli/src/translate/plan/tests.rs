//! How the flags of `translate` are read, and which are refused.

use clap::Parser as _;

use super::*;
use crate::args::{Cli, Command};

fn plan(flags: &str) -> Result<Plan, Failure> {
    plan_at(flags, None)
}

/// With a token in the environment.
fn plan_at(flags: &str, token: Option<&str>) -> Result<Plan, Failure> {
    let words = words::split(&format!("lockgate translate {flags}")).unwrap();
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let Command::Translate(args) = cli.command else { panic!("another command") };
    let said = cli.global.token.map(Secret::from);
    let ours = said.clone().or_else(|| token.map(Secret::from));
    Plan::of(&args, Tokens { said, ours })
}

fn serving(flags: &str) -> Serve {
    match plan(flags) {
        Ok(Plan::Serve(serve)) => serve,
        other => panic!("{flags}: {other:?}"),
    }
}

#[test]
fn a_command_is_offered_over_sse_unless_said() {
    let serve = serving("--stdio 'uvx mcp-server-git'");
    assert!(serve.streamable_http.is_none());
    assert_eq!(serve.sse.unwrap().events, "/sse");
    assert_eq!(serve.listen, "127.0.0.1:8000".parse().unwrap());
    let Server::Command { words, mode: StdioMode::PerSession } = serve.server else { panic!() };
    assert_eq!(words, ["uvx", "mcp-server-git"]);
}

#[test]
fn contextforges_spellings_are_understood() {
    let serve = serving(
        "--stdio a --expose-sse --expose-streamable-http --port 1 --host localhost \
         --logLevel debug --cors https://a.example https://b.example --ssePath events \
         --messagePath /say/ --keepAlive 5 --stateless --jsonResponse",
    );
    let Sse { events, messages } = serve.sse.unwrap();
    assert_eq!((events.as_str(), messages.as_str()), ("/events", "/say"));
    assert_eq!(serve.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(serve.keep_alive, Duration::from_secs(5));
    let http = serve.streamable_http.unwrap();
    assert!(http.stateless && http.json && serve.listen.ip().is_loopback());
    let Ok(Plan::Pipe(pipe)) =
        plan("--connect-sse http://h/sse --oauth2Bearer t --stdioCommand 'my client'")
    else {
        panic!("no pipe")
    };
    assert_eq!(pipe.bearer.unwrap().expose(), "t");
    assert_eq!(pipe.client.unwrap(), ["my", "client"]);
}

#[test]
fn a_server_elsewhere_is_told_no_token_that_was_not_meant_for_it() {
    for (flags, expected) in
        [("", None), ("--token a", Some("a")), ("--token a --oauth2-bearer b", Some("b"))]
    {
        let flags = format!("--connect-sse http://h/sse {flags}");
        let pipe = plan_at(&flags, Some("our own"));
        let Ok(Plan::Pipe(pipe)) = pipe else { panic!("{pipe:?}") };
        assert_eq!(pipe.bearer.as_ref().map(|it| it.expose().as_str()), expected, "{flags}");
        let serve = plan_at(&format!("{flags} --expose-sse"), Some("our own"));
        let Ok(Plan::Serve(serve)) = serve else { panic!("{serve:?}") };
        let Server::Url { bearer, .. } = serve.server else { panic!() };
        assert!(bearer.is_none_or(|it| it.expose() == "b"), "{flags}");
    }
}

#[test]
fn a_url_can_be_offered_in_another_transport() {
    let serve = serving("--connect-sse http://h/sse --expose-streamable-http --oauth2-bearer t");
    assert!(serve.sse.is_none());
    let Server::Url { transport: Transport::Sse, bearer, .. } = serve.server else { panic!() };
    assert_eq!(bearer.unwrap().expose(), "t");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    for (flags, reason) in [
        ("", "is required"),
        ("--stdio a --connect-sse http://h", "exclude each other"),
        ("--connect-sse http://h --connect-streamable-http http://h", "exclude each other"),
        ("--stdio ''", "names no program"),
        ("--stdio \"'a\"", "not closed"),
        ("--stdio a --oauth2-bearer t", "not for a command"),
        ("--stdio a --stdio-command b", "names a client"),
        ("--stdio a --stateless", "--expose-streamable-http"),
        ("--stdio a --expose-streamable-http --sse-path /x", "--expose-sse"),
        ("--stdio a --sse-path /x --message-path x", "must differ"),
        ("--stdio a --host 0.0.0.0", "--token is required"),
        ("--stdio a --host no.such.host.invalid", "is no address"),
        ("--connect-sse ftp://h", "--connect-sse"),
        ("--connect-sse http://h --port 1", "--port needs --expose-sse"),
        ("--connect-sse http://h --expose-sse --stdio-mode shared", "is of --stdio"),
        ("--grpc localhost:50051", "gRPC services are not translated"),
        ("--stdio a --header-to-env Authorization=TOKEN", "must not set the environment"),
    ] {
        let failure = plan(flags).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{flags}");
        assert!(failure.message.contains(reason), "{flags}: {failure}");
    }
    assert!(plan("--stdio a --host 0.0.0.0 --token t").is_ok());
}

#[test]
fn programs_are_looked_for_where_the_system_looks() {
    let check = |program: &str| check_program(&[program.to_owned()], Some("/nowhere:/bin"));
    assert!(check("sh").is_ok() && check("/bin/sh").is_ok());
    let failure = check("no-such-program").unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    assert_eq!(failure.message, "command not found: `no-such-program`");
    assert!(check("/no/such").is_err());
}
