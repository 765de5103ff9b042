//! Every command that a page shows is run, and what the page shows of its output is compared with what comes.
//!
//! A page's `console` blocks have commands behind `$ ` or `# `, a backslash goes on with the next line, and every other
//! line is output. Figures are wild; `…` at the end of a line stands for the rest of it, a line of `…` for any lines. A
//! comment above a block, `<!-- scene: NAME -->`, tells in which of the prepared places its commands run ([`stage`]);
//! without one it is `daemon`. `<!-- picture: docs/NAME.svg, COLUMNSxLINES, KEYS -->` has the next command run on a
//! terminal, typed these keys, and what it shows held against that drawing ([`picture`]).
//!
//! `GO_METRO_SCENES=slow,lossy` runs those of these scenes alone and shows what they print, for the one who writes a
//! page.

mod page;
mod picture;
mod runner;
mod stage;
mod traffic;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use page::Block;
use runner::{EXCUSED, PACKAGE, Runner, SCENES};
use stage::Stage;

use super::pages;
use super::support::text;

#[test]
fn every_command_of_every_page_runs_and_prints_what_the_page_shows() {
    let mut scenes = BTreeMap::<String, Vec<Block>>::new();
    for page in pages::all() {
        for block in page::blocks(&page, &text(&page)) {
            scenes.entry(block.scene.clone()).or_default().push(block);
        }
    }
    // A command whose output another page shows in the same scene is run there.
    let shown: BTreeSet<(String, String)> = scenes
        .iter()
        .flat_map(|(scene, blocks)| blocks.iter().flat_map(|block| &block.steps).map(move |step| (scene, step)))
        .filter(|(_, step)| !step.output.is_empty())
        .map(|(scene, step)| (scene.clone(), step.command.clone()))
        .collect();
    let only = std::env::var(SCENES).ok();
    let is_wanted = |scene: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == scene));
    let mut problems = Vec::new();
    let mut ran = 0;
    for (scene, blocks) in scenes.into_iter().filter(|(scene, _)| is_wanted(scene)) {
        let Some(stage) = Stage::set(&scene) else {
            problems.extend(blocks.iter().map(|block| format!("{}: there is no scene {scene}", block.place)));
            continue;
        };
        for (block, step) in blocks.iter().flat_map(|block| block.steps.iter().map(move |step| (block, step))) {
            if step.output.is_empty() && shown.contains(&(scene.clone(), step.command.clone())) {
                continue;
            }
            let start = std::time::Instant::now();
            match runner::of(&step.command) {
                None => problems.push(format!("{}: nobody knows how to run `{}`", block.place, step.command)),
                Some(Runner::Excused) => {}
                Some(runner) => {
                    ran += 1;
                    if let Err(problem) = runner.run(&stage, step) {
                        problems.push(format!("{}: `{}`: {problem}", block.place, step.command));
                    }
                }
            }
            println!("{:5.1} s  {scene}: {}", start.elapsed().as_secs_f64(), step.command);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(ran > 20 || only.is_some(), "only {ran} commands");
}

/// A list of excuses grows by itself otherwise.
#[test]
fn every_excused_command_has_a_test_of_its_own_and_stands_on_a_page() {
    let root = testing_support::workspace::root();
    let all = page_commands();
    for (start, reason, test) in &EXCUSED {
        assert!(all.iter().any(|command| command.starts_with(start)), "no page says `{start}` any more");
        // Packages and their tests come together.
        if *test == PACKAGE && !root.join("testing/e2e/tests/deploy").exists() {
            continue;
        }
        let mut grep = Command::new("grep");
        grep.args(["-rqE", &format!("fn {test}\\b"), "xtask", "testing", "go-metro-rtt", "go-metro-userspace", "fuzz"])
            .current_dir(&root);
        assert!(grep.status().unwrap().success(), "`{start}` is excused ({reason}), and there is no {test}");
    }
}

fn page_commands() -> Vec<String> {
    let blocks = pages::all().into_iter().flat_map(|page| page::blocks(&page, &text(&page)));
    blocks.flat_map(|block| block.steps).map(|step| step.command).collect()
}

#[test]
fn a_command_that_nobody_knows_is_a_failure() {
    assert!(runner::of("rm -rf /").is_none());
    assert!(runner::of("go-metro fly").is_none());
    assert!(runner::of("cargo xtask fly").is_none());
}
