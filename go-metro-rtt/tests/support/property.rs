//! How many cases a property runs. go-metro-userspace's tests use this file as well.

/// How many cases a property runs: this many, or as many as `PROPTEST_CASES` says, if that is more.
pub(crate) fn cases(least: u32) -> proptest::test_runner::Config {
    let default = proptest::test_runner::Config::default();
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if is_set { default.cases.max(least) } else { least };
    proptest::test_runner::Config { cases, failure_persistence: None, ..default }
}
