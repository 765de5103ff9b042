//! What is made from the program is what is committed.

use super::support::text;

#[test]
fn pages_made_from_the_program_are_current() {
    for (path, made) in xtask::docs::made(&testing_lab::agent::binary().unwrap()).unwrap() {
        assert!(text(path) == made, "{path} is stale: run `cargo xtask docs`");
    }
}
