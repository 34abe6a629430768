//! Starting: what stops it, and that a restart finds everything again.

use super::*;

#[tokio::test]
async fn a_second_one_on_the_same_directory_is_refused() {
    let fixture = Fixture::start().await;
    let second = ControlPlane::start(config(&fixture.dir)).await;
    let Err(error) = second else { panic!("two on one data directory") };
    assert!(matches!(error, StartError::DataDirInUse { .. }), "{error}");
    let dir = fixture.stop().await;
    let again = ControlPlane::start(config(&dir)).await.unwrap();
    again.shutdown().await;
}

#[tokio::test]
async fn a_path_that_cannot_be_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(error) = ControlPlane::start(Config::new(file.join("data"))).await else {
        panic!("started below a file")
    };
    assert!(matches!(error, StartError::DataDirUnwritable { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[tokio::test]
async fn the_first_start_tells_the_password_and_later_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = ControlPlane::start(Config::new(dir.path())).await.unwrap();
    let password = first.generated_admin_password().unwrap().expose().clone();
    assert!(password.len() > 40);
    first.shutdown().await;
    let second = ControlPlane::start(Config::new(dir.path())).await.unwrap();
    assert!(second.generated_admin_password().is_none());
    second.shutdown().await;
}

#[tokio::test]
async fn weak_secrets_are_refused_when_it_is_strict() {
    let dir = tempfile::tempdir().unwrap();
    let strict = Config { strictness: crate::Strictness::Strict, ..config(&dir) };
    let Err(error) = ControlPlane::start(strict).await else { panic!("took `changeme`") };
    let text = error.to_string();
    assert!(text.contains("admin_password") && text.contains("jwt_secret"), "{text}");
}

#[tokio::test]
async fn another_encryption_key_is_noticed_at_once() {
    let fixture = Fixture::start().await;
    let dir = fixture.stop().await;
    let other = Config { encryption_secret: Some("another secret of mine".into()), ..config(&dir) };
    let Err(error) = ControlPlane::start(other).await else { panic!("took another key") };
    assert!(matches!(error, StartError::StoredKeys(_)), "{error}");
}

#[tokio::test]
async fn a_restart_takes_no_revision() {
    let fixture = Fixture::start().await;
    let before = *fixture.control_plane.store.head().borrow();
    assert!(before > 0);
    let clock = Arc::clone(&fixture.clock);
    let dir = fixture.stop().await;
    let again = ControlPlane::start_with_clock(config(&dir), clock).await.unwrap();
    assert_eq!(*again.store.head().borrow(), before, "the keys are settled already");
    again.shutdown().await;
}

#[tokio::test]
async fn the_control_socket_is_private_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let fixture = Fixture::start().await;
    let path = fixture.dir.path().join("control.sock");
    std::fs::write(&path, "left over").unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serve = fixture.control_plane.serve_socket(stop.cancelled());
    let talk = async {
        let mut stream = loop {
            match tokio::net::UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let get = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(get).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        (mode, answer)
    };
    let (served, (mode, answer)) = tokio::join!(serve, talk);
    served.unwrap();
    assert_eq!(mode, 0o600);
    assert!(answer.starts_with("HTTP/1.1 200"), "no login is needed: {answer}");
    assert!(!path.exists());
    fixture.stop().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_said_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let deep = Config { data_dir: dir.path().join("x".repeat(120)), ..config(&dir) };
    let control_plane = ControlPlane::start(deep).await.unwrap();
    let served = control_plane.serve_socket(std::future::pending()).await;
    assert!(served.unwrap_err().to_string().contains("too long for a socket"));
    control_plane.shutdown().await;
}
