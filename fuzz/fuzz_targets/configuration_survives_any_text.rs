//! Whatever a configuration file's text: it is a configuration, or an error that says where.
#![no_main]

use std::path::Path;

use go_metro::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, Path::new("conf.yaml"), &|_| None) {
        Ok(config) => assert!(!config.instances.is_empty()),
        Err(error) => assert!(!error.to_string().trim().is_empty()),
    }
});
