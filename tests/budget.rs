//! What the pure core takes is what was recorded, within a few percent: see `instructions`.

use std::process::Command;

use tests::world::program;

#[test]
fn the_core_takes_the_instructions_that_are_recorded() -> anyhow::Result<()> {
    let counted = Command::new(program("instructions")?).output()?;
    let told = String::from_utf8_lossy(&counted.stdout);
    let problem = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{told}\n{problem}");
    Ok(())
}
