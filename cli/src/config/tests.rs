//! Precedence, sources and mistakes of the configuration.

use std::path::Path;

use super::*;

fn global(directory: &Path) -> Global {
    Global { data_dir: Some(directory.to_path_buf()), ..Global::default() }
}

fn with_file(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("lockgate.yaml"), text).unwrap();
    directory
}

fn listens(settings: &Settings) -> Vec<String> {
    settings.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let directory = with_file("listen: 127.0.0.1:1\napp_name: from-file\nadmin_user: file\n");
    let environment =
        Environment::from([("LOCKGATE_LISTEN", "127.0.0.1:2"), ("APP_NAME", "from-environment")]);
    let mut flags = Flags::default();
    flags.set_list("listen", &["127.0.0.1:3".to_owned()]);
    let settings = load(&global(directory.path()), flags, &environment).unwrap();
    assert_eq!(listens(&settings), ["127.0.0.1:3"]);
    assert_eq!(settings.app_name, "from-environment");
    assert_eq!(settings.admin_user, "file");
    assert_eq!(settings.log_level, "info");
}

#[test]
fn our_own_variable_wins_over_contextforges() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::from([
        ("BASIC_AUTH_USER", "theirs"),
        ("LOCKGATE_ADMIN_USER", "ours"),
        ("JWT_SECRET_KEY", "my-test-key"),
        ("ENVIRONMENT", "production"),
        ("APP_ROOT_PATH", "/gateway/"),
        ("ALLOWED_ORIGINS", r#"["http://a.example","http://b.example"]"#),
    ]);
    let settings = load(&global(directory.path()), Flags::default(), &environment).unwrap();
    assert_eq!(settings.admin_user, "ours");
    assert_eq!(settings.jwt_secret, Some("my-test-key".into()));
    assert!(settings.strict);
    assert_eq!(settings.root_path, "/gateway");
    assert_eq!(settings.allowed_origins.len(), 2);
}

#[test]
fn host_and_port_make_the_listener_and_a_machine_name_in_host_is_no_address() {
    let directory = tempfile::tempdir().unwrap();
    let listen = |environment: Environment| {
        listens(&load(&global(directory.path()), Flags::default(), &environment).unwrap())
    };
    assert_eq!(listen(Environment::from([("HOST", "0.0.0.0"), ("PORT", "80")])), ["0.0.0.0:80"]);
    assert_eq!(listen(Environment::from([("PORT", "5")])), ["127.0.0.1:5", "[::1]:5"]);
    assert_eq!(listen(Environment::from([("HOST", "x86_64-linux-gnu")])), [""; 0]);
    assert_eq!(
        listen(Environment::from([("PORT", "5"), ("LOCKGATE_LISTEN", "[::1]:6")])),
        ["[::1]:6"]
    );
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let directory = with_file("");
    let path = directory.path().join("secret");
    std::fs::write(&path, "s3cret\n").unwrap();
    let path = path.to_str().unwrap();
    let environment = Environment::from([("BASIC_AUTH_PASSWORD_FILE", path)]);
    let settings = load(&global(directory.path()), Flags::default(), &environment).unwrap();
    assert_eq!(settings.admin_password, Some("s3cret".into()));
    let both =
        Environment::from([("LOCKGATE_JWT_SECRET_FILE", path), ("LOCKGATE_JWT_SECRET", "x")]);
    let failure = load(&global(directory.path()), Flags::default(), &both).unwrap_err();
    assert!(failure.message.contains("are both set"), "{failure}");
}

#[test]
fn every_mistake_is_named_at_once_and_exits_with_2() {
    let directory = with_file("lisen: 127.0.0.1:1\nstrict: perhaps\nthreads: [1, 2]\n");
    let environment = Environment::from([("LOCKGATE_SYNC_LISTEN", "nowhere")]);
    let failure = load(&global(directory.path()), Flags::default(), &environment).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    let text = failure.message.replace(directory.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    configuration: DIR/lockgate.yaml:1: `lisen` is not a setting; did you mean `listen`?
      `LOCKGATE_SYNC_LISTEN`: `nowhere` is not ADDRESS:PORT, such as 127.0.0.1:4444
      `strict` (file, line 2): `perhaps` is not true or false
      `threads` (file, line 3): takes one value
    ");
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::from([
        ("LOCKGATE_ALLOWED_HOST", "x"),
        ("LOCKGATE_SERVICE_HOST", "10.0.0.1"),
        ("LOCKGATE_TOKEN", "t"),
    ]);
    let settings = load(&global(directory.path()), Flags::default(), &environment).unwrap();
    assert_eq!(
        settings.notices,
        ["`LOCKGATE_ALLOWED_HOST` is not a setting; did you mean `LOCKGATE_ALLOWED_HOSTS`?"]
    );
}

#[test]
fn secrets_are_masked_when_printed() {
    let directory = with_file("jwt_secret: topsecret\nlisten: [127.0.0.1:1, 127.0.0.1:2]\n");
    let settings =
        load(&global(directory.path()), Flags::default(), &Environment::default()).unwrap();
    let line =
        |key: &str| settings.printed.iter().find(|(name, ..)| *name == key).cloned().unwrap();
    assert_eq!(line("jwt_secret"), ("jwt_secret", "***".to_owned(), Origin::File(1)));
    assert_eq!(line("listen").1, "127.0.0.1:1, 127.0.0.1:2");
    assert_eq!(line("app_name").2, Origin::Default);
}

#[test]
fn the_data_directory_named_on_the_command_line_wins_over_an_address_in_the_environment() {
    let environment =
        Environment::from([("LOCKGATE_ADDRESS", "http://h:1"), ("LOCKGATE_TOKEN", "t")]);
    let named = remote(&global(Path::new("/d")), &environment).unwrap();
    assert_eq!(named.address, None);
    let unnamed = remote(&Global::default(), &environment).unwrap();
    assert_eq!(unnamed.address.as_deref(), Some("http://h:1"));
    assert_eq!(unnamed.token, Some("t".into()));
}

#[cfg(feature = "data-plane")]
#[test]
fn a_command_that_is_started_gets_none_of_our_tokens() {
    let environment = Environment::from([
        ("LOCKGATE_TOKEN", "t"),
        ("LOCKGATE_JWT_SECRET", "t"),
        ("MCPGATEWAY_BEARER_TOKEN", "t"),
        ("MCP_AUTH", "t"),
        ("MCP_AUTH_TOKEN", "t"),
        ("PATH", "/bin"),
        ("GITHUB_TOKEN", "its own"),
    ]);
    let names: Vec<_> = environment.for_commands().into_keys().collect();
    assert_eq!(names, ["GITHUB_TOKEN", "PATH"]);
}
