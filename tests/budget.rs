//! What the pure core takes is what was recorded, within a few percent: see `instructions`.

use std::process::Command;

use tests::world::program;

#[test]
fn the_core_takes_the_instructions_that_are_recorded() -> anyhow::Result<()> {
    let is_ci = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    if !is_ci && Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("not counted: valgrind is missing, `.ci/deps test` installs it");
        return Ok(());
    }
    let counted = Command::new(program("instructions")?).output()?;
    let told = String::from_utf8_lossy(&counted.stdout);
    let problem = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{told}\n{problem}");
    Ok(())
}

/// A budget that CI cannot judge is none: it fails there, before anything is counted.
#[test]
fn a_budget_of_another_compiler_fails_in_ci_only() -> anyhow::Result<()> {
    // Of another compiler, and without anything to count with.
    let directory = tempfile::tempdir()?;
    let rustc = directory.path().join("rustc");
    std::fs::write(&rustc, "#!/bin/sh\necho rustc 0.0.0\n")?;
    std::fs::set_permissions(&rustc, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for (ci, expected) in [("true", "CI has to install"), ("", "valgrind is missing")] {
        let mut command = Command::new(program("instructions")?);
        let counted = command.env("PATH", directory.path()).env("CI", ci).output()?;
        let told = [counted.stdout, counted.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(!counted.status.success() && told.contains(expected), "CI={ci}: {told}");
        assert!(told.contains("not of rustc 0.0.0"), "{told}");
    }
    Ok(())
}
