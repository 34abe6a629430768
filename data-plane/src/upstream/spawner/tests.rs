//! Children come, speak and go; nothing of them is left.

use std::path::Path;

use super::*;

struct Heard {
    lines: mpsc::Sender<Bytes>,
    ended: Mutex<Option<tokio::sync::oneshot::Sender<Ended>>>,
}

impl Listener for Heard {
    fn line(&self, line: Bytes) {
        self.lines.try_send(line).unwrap();
    }

    fn ended(&self, end: Ended) {
        self.ended.lock().take().unwrap().send(end).ok();
    }
}

struct Script {
    spawner: Spawner,
    input: mpsc::Sender<Bytes>,
    lines: mpsc::Receiver<Bytes>,
    ended: tokio::sync::oneshot::Receiver<Ended>,
    running: Option<Running>,
}

/// Runs a shell script.
async fn run(script: &str) -> Script {
    let spawner = Spawner::start(8).unwrap();
    let (input, fed) = mpsc::channel(8);
    let (heard, lines) = mpsc::channel(64);
    let (told, ended) = tokio::sync::oneshot::channel();
    let listener = Arc::new(Heard { lines: heard, ended: Mutex::new(Some(told)) });
    let program = Program {
        upstream: "test".to_owned(),
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        variables: vec![("X_TOKEN".to_owned(), "secret".into())],
        directory: PathBuf::from("/"),
        line_max: 1000,
    };
    let spawner = Arc::new(spawner);
    let (inner, handle) = (Arc::clone(&spawner), spawner.handle().clone());
    let starting = async move {
        let claim = inner.room.claim().unwrap();
        let room = Room::new(8);
        let places = [claim.place().await.unwrap(), room.claim().unwrap().place().await.unwrap()];
        inner.spawn(&program, fed, listener, places)
    };
    let running = handle.spawn(starting).await;
    let running = running.unwrap().unwrap();
    let spawner = Arc::into_inner(spawner).unwrap();
    Script { spawner, input, lines, ended, running: Some(running) }
}

impl Script {
    async fn line(&mut self) -> String {
        String::from_utf8(self.lines.recv().await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn lines_go_in_and_out_and_the_end_is_told_with_the_last_words() {
    let mut script = run("echo $X_TOKEN; read a; echo got $a; echo oh no >&2; exit 3").await;
    assert_eq!(script.line().await, "secret");
    script.input.send(Bytes::from_static(b"this")).await.unwrap();
    assert_eq!(script.line().await, "got this");
    let reason = script.ended.await.unwrap();
    assert_eq!(reason.how, "it ended with exit status: 3");
    assert_eq!(reason.to_string(), "it ended with exit status: 3; it said: oh no");
}

#[tokio::test]
async fn a_child_inherits_no_other_variables() {
    let mut script =
        run("env | cut -d= -f1 | grep -v -e ^PWD -e ^SHLVL -e ^_ -e ^OLDPWD; cat").await;
    script.running.take();
    script.ended.await.unwrap();
    while let Some(name) = script.lines.recv().await {
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert!(name == "X_TOKEN" || INHERITED.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn a_dropped_child_that_ignores_everything_is_killed_with_its_own_children() {
    let mut script =
        run("trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 1000; done").await;
    let pids = [script.line().await, script.line().await];
    assert!(pids.iter().all(|pid| Path::new(&format!("/proc/{pid}")).exists()));
    script.running.take();
    assert_eq!(script.ended.await.unwrap().to_string(), "it was stopped");
    script.spawner.shutdown().await;
    for pid in pids {
        assert!(is_gone(&pid), "process {pid} is left");
    }
}

/// Whether a process is gone, or a zombie that only waits for init.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn an_endless_line_ends_the_child() {
    let script = run("yes | tr -d '\\n'").await;
    assert_eq!(script.ended.await.unwrap().to_string(), "a line was longer than 1000 bytes");
}
