//! What a user sees of a task that refuses.

use std::process::Command;

#[test]
fn a_refusal_is_one_error_without_a_backtrace() {
    let mut task = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let done = task.args(["version", "none"]).env("RUST_BACKTRACE", "1").output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.starts_with("Error: ") && said.lines().count() == 1, "{said}");
}
