//! Several instances on one machine, and everything that can be wrong with a start.

use std::time::Duration;

use tests::world::process::Process;
use tests::world::{World, lockgate};

/// Starts `lockgate up` that must fail; gives its exit code and what it said.
async fn failing_start(directory: &std::path::Path, listen: &str) -> anyhow::Result<(i32, String)> {
    let mut command = lockgate(directory)?;
    command.args(["up", "--listen", listen]);
    let mut process = Process::spawn(command)?;
    let code = process.ended(Duration::from_secs(20)).await?;
    Ok((code, process.log()))
}

fn one_clear_line(said: &str) -> String {
    let errors: Vec<_> =
        said.lines().filter(|line| line.to_lowercase().contains("error")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    errors.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_run_side_by_side() -> anyhow::Result<()> {
    let (one, two) = tokio::join!(World::up(), World::up());
    let (one, two) = (one?, two?);
    one.ok(&["create", "tool", "of_one", "--url", "http://127.0.0.1:9/"]).await?;
    two.ok(&["create", "tool", "of_two", "--url", "http://127.0.0.1:9/"]).await?;
    assert_eq!(one.ok(&["get", "tools", "-o", "name"]).await?, "of_one");
    assert_eq!(two.ok(&["get", "tools", "-o", "name"]).await?, "of_two");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_directory_are_named() -> anyhow::Result<()> {
    let world = World::up().await?;
    let listen = world.url().trim_start_matches("http://").to_owned();
    let fresh = tempfile::tempdir()?;
    let (code, said) = failing_start(fresh.path(), &listen).await?;
    assert_ne!(code, 0);
    assert!(one_clear_line(&said).contains(&listen), "{said}");
    let (code, said) = failing_start(world.data_dir(), "127.0.0.1:0").await?;
    assert_ne!(code, 0);
    let directory = world.data_dir().display().to_string();
    assert!(one_clear_line(&said).contains(&directory), "{said}");
    world.ok(&["status"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_named() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("a-file");
    std::fs::write(&file, "not a directory")?;
    let inside = file.join("data");
    let (code, said) = failing_start(&inside, "127.0.0.1:0").await?;
    assert_ne!(code, 0);
    assert!(one_clear_line(&said).contains("a-file"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_left_alone() -> anyhow::Result<()> {
    let mut world = World::up().await?;
    assert_eq!(world.stop().await?, 0);
    let files = std::fs::read_dir(world.data_dir())?.flatten();
    let database = files.map(|entry| entry.path()).find(|path| {
        path.extension().is_some_and(|extension| extension == "db" || extension == "sqlite")
    });
    let database = database.ok_or_else(|| anyhow::anyhow!("no database in the data directory"))?;
    let url = format!("sqlite://{}", database.display());
    let pool = sqlx::SqlitePool::connect(&url).await?;
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'from the future', 1, x'00', 0)";
    sqlx::query(insert).execute(&pool).await?;
    pool.close().await;
    let (code, said) = failing_start(world.data_dir(), "127.0.0.1:0").await?;
    assert_ne!(code, 0);
    assert!(one_clear_line(&said).contains("newer"), "{said}");
    Ok(())
}
