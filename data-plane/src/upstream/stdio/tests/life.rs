//! When children are started, and when they are gone.

use std::path::Path;

use super::*;

fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

async fn wait_until_gone(pid: &str) {
    for _ in 0..1000 {
        if is_gone(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is left");
}

#[tokio::test]
async fn a_child_in_use_is_not_ended_as_idle() {
    let mut resource = server(LEGACY, PID);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    let proxy = Proxy::patient(resource);
    let first = pid(&proxy).await;
    let active = proxy.upstreams.find("u1").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(pid(&proxy).await, first);
    active.sweep(Duration::from_secs(2));
    assert_eq!(pid(&proxy).await, first);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    active.sweep(Duration::from_secs(2));
    wait_until_gone(&first).await;
}

#[tokio::test]
async fn a_dead_child_fails_its_calls_and_the_next_call_gets_a_new_one() {
    let act = r#"(sys.stderr.write("out of memory\n"), sys.stderr.flush(), os._exit(9)) if "die" in args else result(m, {"content": str(os.getpid())})"#;
    let proxy = Proxy::patient(server(LEGACY, act));
    let first = pid(&proxy).await;
    let error = proxy.run(legacy_call("2", r#"{"die":1}"#)).await;
    let expected = "upstream `up` ended while it was working: it ended with exit status: 9; it said: out of memory";
    assert_eq!(error, [expected]);
    drop(proxy.upstreams.news().take());
    assert_ne!(pid(&proxy).await, first);
    // A restarted server may offer something else.
    let stale = async {
        while proxy.upstreams.news().take().stale.is_empty() {
            proxy.upstreams.news().came().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stale).await.unwrap();
}

#[tokio::test]
async fn no_child_is_left_when_its_upstream_is_removed_or_the_proxy_ends() {
    let proxy = Proxy::patient(server(LEGACY, PID));
    let removed = pid(&proxy).await;
    assert!(Path::new(&format!("/proc/{removed}")).exists());
    proxy.upstreams.reconcile(&table(Vec::new(), Vec::new()));
    wait_until_gone(&removed).await;

    let proxy = Proxy::patient(server(LEGACY, PID));
    let ended = pid(&proxy).await;
    proxy.upstreams.shutdown().await;
    assert!(is_gone(&ended));

    let proxy = Proxy::patient(server(LEGACY, PID));
    let dropped = pid(&proxy).await;
    drop(proxy);
    wait_until_gone(&dropped).await;
}

#[tokio::test]
async fn a_command_that_cannot_run_says_why_and_is_not_tried_at_once() {
    let proxy = Proxy::patient(command("no-such-command-here", &[]));
    let error = proxy.run(legacy_call("1", "{}")).await.remove(0);
    assert!(
        error.contains("could not be started: `no-such-command-here`: No such file"),
        "{error}"
    );
    let crashing = Proxy::patient(command("sh", &["-c", "echo broken >&2; exit 2"]));
    let first = crashing.run(legacy_call("1", "{}")).await.remove(0);
    assert!(first.contains("it ended with exit status: 2; it said: broken"), "{first}");
    let mut errors = Vec::new();
    for _ in 0..10 {
        errors.extend(crashing.run(legacy_call("1", "{}")).await);
    }
    let told = errors.iter().find(|error| error.contains("is started again in"));
    assert!(told.is_some_and(|error| error.contains("broken")), "{errors:?}");
}

#[tokio::test]
async fn a_session_has_a_child_of_its_own_and_there_are_only_so_many() {
    let mut resource = server(LEGACY, PID);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    let limits = Limits {
        call_timeout: Duration::from_secs(30),
        children_per_upstream: 2,
        ..crate::upstream::testing::limits()
    };
    let proxy = Proxy::limited(vec![resource], Vec::new(), limits);
    let of = |session: u8| {
        let mut call = legacy_call("1", "{}");
        call.session = SessionKey::Client([session; 16]);
        call
    };
    let one = proxy.run(of(1)).await;
    assert_eq!(proxy.run(of(1)).await, one);
    let two = proxy.run(of(2)).await;
    assert_ne!(one, two);
    // What is idle gives way to what is needed: hers who has most, the longest unused first.
    let mut bobs = of(3);
    bobs.subject = "bob".into();
    let three = proxy.run(bobs).await;
    let answer: serde_json::Value = serde_json::from_str(&one[0]).unwrap();
    wait_until_gone(answer["result"]["content"].as_str().unwrap()).await;
    assert_eq!(proxy.run(of(2)).await, two);
    // Who has no more than others gets no place of theirs.
    let link = proxy.upstreams.find("u1").unwrap();
    let crate::upstream::active::Adapter::Pipe(pipe) = &link.adapter else { panic!("no pipe") };
    let key = SessionKey::Client([2; 16]);
    let _busy = pipe.link_of(&key, (crate::mcp::Capabilities::NONE.into(), "ann")).await.unwrap();
    let fourth = proxy.run(of(4)).await.remove(0);
    assert!(fourth.contains("runs 2 processes already"), "{fourth}");
    // Nothing was started, so nothing has failed: later ones do not wait, nor hear of failures.
    for _ in 0..4 {
        assert_eq!(proxy.run(of(4)).await, [fourth.as_str()]);
    }
    proxy.upstreams.close_session(&SessionKey::Client([3; 16]));
    let answer: serde_json::Value = serde_json::from_str(&three[0]).unwrap();
    wait_until_gone(answer["result"]["content"].as_str().unwrap()).await;
    assert_eq!(proxy.run(of(2)).await, two);
}

/// Children of which an argument contains `mark`, without what they start themselves.
fn children_with(mark: &str) -> usize {
    let is_marked = |directory: &Path| {
        let line = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        memchr::memmem::find(&line, mark.as_bytes()).is_some()
    };
    let is_leader = |directory: &Path| {
        let stat = std::fs::read_to_string(directory.join("stat")).unwrap_or_default();
        let group = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2));
        group.is_some_and(|group| directory.ends_with(group))
    };
    let directories = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    directories.filter(|it| is_marked(it) && is_leader(it)).count()
}

#[tokio::test]
async fn sessions_that_come_and_go_never_have_more_processes_than_there_is_room_for() {
    let mark = format!("mark-{}", uuid::Uuid::new_v4());
    let mut resource = server(LEGACY, PID);
    resource.era = Some(Era::Legacy);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    // It takes no notice of the end of its input.
    let script = stdio.args.last_mut().unwrap();
    script.push_str(&format!("while True: time.sleep(1000) # {mark}\n"));
    let limits = Limits {
        call_timeout: Duration::from_secs(30),
        children_per_upstream: 3,
        ..crate::upstream::testing::limits()
    };
    let proxy = Arc::new(Proxy::limited(vec![resource], Vec::new(), limits));
    let most = std::cell::Cell::new(0);
    let watch = async {
        loop {
            most.set(children_with(&mark).max(most.get()));
            assert!(most.get() <= 3, "{} processes run", most.get());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let visitors = futures_util::future::join_all((0..3_u8).map(|visitor| {
        let proxy = Arc::clone(&proxy);
        async move {
            for session in 0..3_u8 {
                let mut call = legacy_call("1", "{}");
                call.session = SessionKey::Client([visitor * 16 + session; 16]);
                let key = call.session.clone();
                let answer = proxy.run(call).await.remove(0);
                // Each finds room, if not at once.
                assert!(answer.contains("content"), "{answer}");
                proxy.upstreams.close_session(&key);
            }
        }
    }));
    let start = std::time::Instant::now();
    tokio::select! {
        () = watch => (),
        _ = visitors => (),
    }
    assert_eq!(most.get(), 3, "all that there is room for");
    // Otherwise they would not have had to wait for each other.
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    proxy.upstreams.shutdown().await;
    assert_eq!(children_with(&mark), 0);
}
