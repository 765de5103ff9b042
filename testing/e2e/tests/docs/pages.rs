//! What pages promise beside their commands: links that lead somewhere, keys and figures that are so elsewhere.

use std::collections::BTreeSet;

use testing_e2e::ORIGINAL;
use testing_support::workspace::root;

use super::support::text;

/// Every page, by its path in the repository.
pub(crate) fn all() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "packaging/datadog", "corpus"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        pages.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    pages.sort();
    pages.into_iter().map(|page| page.trim_start_matches('/').to_owned()).collect()
}

/// Targets of a page's links and pictures.
fn links(text: &str) -> Vec<&str> {
    let behind = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    behind.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn every_link_leads_to_a_file_and_every_page_is_in_the_index() {
    let mut dead = Vec::new();
    for page in all() {
        let text = text(&page);
        let folder = root().join(&page).parent().unwrap().to_path_buf();
        for target in links(&text).into_iter().filter(|target| !target.contains("://")) {
            let path = target.split('#').next().unwrap();
            if !path.is_empty() && !folder.join(path).exists() {
                dead.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    let index = text("docs/README.md");
    let known = links(&index);
    for page in all().iter().filter_map(|page| page.strip_prefix("docs/")).filter(|page| *page != "README.md") {
        assert!(known.contains(&page), "docs/README.md does not name {page}");
    }
}

/// Workflows run where no test sees them.
#[test]
fn every_task_that_a_workflow_runs_exists() {
    let help = std::process::Command::new(testing_e2e::xtask()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let tasks: BTreeSet<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let mut ran = 0;
    for file in std::fs::read_dir(root().join(".github/workflows")).unwrap() {
        let workflow = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for command in workflow.split("cargo xtask ").skip(1) {
            let task = command.split_whitespace().find(|word| !word.starts_with("--")).unwrap();
            assert!(tasks.contains(task), "a workflow runs `cargo xtask {task}`");
            ran += 1;
        }
    }
    assert!(ran >= 6, "{ran}");
}

#[test]
fn every_key_flag_metric_and_tag_of_the_original_has_a_line_in_the_migration() {
    let page = text("docs/migration.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let named = |what: &str| {
        rows.iter().any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{what}`"))))
    };
    let keys: BTreeSet<&str> = ORIGINAL
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").split_once(':'))
        .map(|(key, _)| key)
        .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && *key != "env")
        .collect();
    // Those that the original's example does not show.
    let hidden = ["pcap", "sample", "sample_duration", "sample_interval"];
    assert!(keys.len() >= 11, "{keys:?}");
    for key in keys.into_iter().chain(hidden).chain(["-cfg=PATH", "-log=PATH", "-f=FILTER", "-st"]) {
        assert!(named(key), "no line for `{key}`");
    }
    for metric in ["system.net.tcp.rtt", "system.net.tcp.rtt.avg", "system.net.tcp.rtt.jitter"] {
        assert!(named(metric), "no line for `{metric}`");
    }
    let tags = rows.iter().find(|row| row.starts_with("| tags | `src:`")).unwrap();
    assert!(["`src:`", "`dst:`", "`iface:`"].iter().all(|tag| tags.contains(tag)));
}

/// A row's figures must stand on the page that the row names as its source.
#[test]
fn figures_in_the_comparison_are_those_of_the_pages_that_they_come_from() {
    let comparison = text("docs/comparison.md");
    let measured = text("docs/performance.md");
    let rows: Vec<&str> =
        comparison.lines().filter(|line| line.ends_with("[performance.md](performance.md) |")).collect();
    assert!(rows.len() >= 6, "{rows:?}");
    for row in rows {
        let figures = row.split('|').nth(2).unwrap().split([' ', ',']).filter(|word| word.parse::<f64>().is_ok());
        for figure in figures {
            let stands = measured
                .split(|c: char| !(c.is_ascii_digit() || c == '.'))
                .any(|word| word.trim_end_matches('.') == figure);
            assert!(stands, "docs/performance.md has no {figure} any more: {row}");
        }
    }
}
