//! SECURITY.md: each claim names a test that there is, or says that it is not tested.

use std::process::Command;

use testing_support::workspace::root;

use super::support::text;

/// Rows of tables, items of lists and paragraphs; of the sections that promise something.
fn claims(page: &str) -> Vec<String> {
    let (_, rest) = page.split_once("\n## What it has\n").unwrap();
    let (sections, _) = rest.split_once("\n## Supply chain\n").unwrap();
    let mut claims = Vec::new();
    let blocks: Vec<&str> = sections.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).collect();
    for (number, block) in blocks.iter().enumerate() {
        if block.starts_with('|') {
            // Below the header and its rule.
            claims.extend(block.lines().skip(2).map(str::to_owned));
        } else if block.starts_with("- ") {
            claims.extend(block.split("\n- ").map(|item| item.replace('\n', " ")));
        } else if !block.starts_with('#') && !blocks.get(number + 1).is_some_and(|next| next.starts_with('|')) {
            claims.push(block.replace('\n', " "));
        }
    }
    claims
}

#[test]
fn each_claim_names_a_test_that_there_is_or_says_that_it_is_not_tested() {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let is_test = |reference: &str| {
        if reference == "fuzz/" {
            return root().join("fuzz/fuzz_targets").is_dir();
        }
        let mut named = files.lines().filter(|file| format!("/{file}").ends_with(&format!("/{reference}")));
        named.any(|file| std::fs::read_to_string(root().join(file)).is_ok_and(|text| text.contains("#[test]")))
    };
    let claims = claims(&text("SECURITY.md"));
    assert!(claims.len() > 40, "{claims:#?}");
    let bare = claims.iter().filter(|claim| {
        let named = claim.split('`').skip(1).step_by(2);
        !claim.to_lowercase().contains("not tested") && !named.into_iter().any(is_test)
    });
    let bare: Vec<&String> = bare.collect();
    assert!(bare.is_empty(), "neither a test nor \"not tested\": {bare:#?}");
    // What is named as a test must be there.
    for claim in &claims {
        for reference in claim.split('`').skip(1).step_by(2).filter(|reference| reference.ends_with(".rs")) {
            let is_there = files.lines().any(|file| format!("/{file}").ends_with(&format!("/{reference}")));
            assert!(is_there, "{reference}: no such file, in: {claim}");
        }
    }
}
