//! What GitHub reads: the workflows, by actionlint.

use std::process::Command;

use xtask::workspace::{output, root, which};

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    let Some(actionlint) = which("actionlint") else {
        println!("skipped: there is no actionlint; .github/workflows/ci.yml shows how it is installed");
        return;
    };
    let said = output(Command::new(actionlint).arg("-no-color").current_dir(root())).unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}
