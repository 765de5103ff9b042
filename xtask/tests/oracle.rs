//! Truth: every sample of `go-metro read`, one by one, against tshark and tcptrace, on every capture there is.
//!
//! The captures are those of the corpus, and of `GO_METRO_CAPTURES` or `shared/captures` beside the repository, if there are any.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::path::PathBuf;

use xtask::lab::agent;
use xtask::oracle::{HEADER, Judged, MIN_RECALL, captures, judge, name_of};
use xtask::workspace::root;

/// Judges all captures of a directory, prints the table, and returns each by its name.
fn judge_all(directory: PathBuf) -> HashMap<String, Judged> {
    let binary = agent::binary().unwrap();
    println!("{HEADER}");
    let judge_one = |file: PathBuf| {
        let (name, judged) = (name_of(&file), judge(&binary, &file).unwrap());
        println!("{}", judged.row(&name));
        (name, judged)
    };
    let all: HashMap<String, Judged> = captures(&[directory]).unwrap().into_iter().map(judge_one).collect();
    assert!(!all.is_empty(), "the directory has no captures");
    for (name, judged) in &all {
        assert_eq!(judged.wrong, 0, "{name}: {:#?}", judged.details);
        assert!(judged.recall() >= MIN_RECALL, "{name}: {:#?}", judged.details);
    }
    all
}

#[test]
fn on_captures_from_elsewhere_every_trustworthy_pair_is_found_and_no_sample_is_wrong() {
    let beside = || root().join("../shared/captures");
    let directory = std::env::var_os("GO_METRO_CAPTURES").map_or_else(beside, PathBuf::from);
    if !directory.is_dir() {
        println!("no captures: set GO_METRO_CAPTURES to a directory of them");
        return;
    }
    let all = judge_all(directory);
    // What the judges say is fixed: a filter that came to trust nothing would find all of it.
    for (name, trusted) in [("scp", 167), ("tcp", 8), ("browsing-snap80", 5318), ("short-sack", 8)] {
        if let Some(judged) = all.get(name) {
            assert_eq!(judged.trusted, trusted, "trustworthy pairs of {name}");
        }
    }
}
