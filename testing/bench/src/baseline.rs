//! The engine of another commit beside this one's: `--baseline COMMIT`.
//!
//! Of either tree only the engine and what it needs is built, with the same loads, so that no classifier and no daemon
//! has to be. Both programs are asked by turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::engine::{LOADS, Server};
use super::{Args, Table, rounds};
use testing_support::workspace::{capture, cargo, root, run};

const FLOWS: [u32; 3] = [1, 1_000, 100_000];
const CASES: [&str; 2] = ["batched", "summarised"];

/// The engine's first file: of this tree, and of those before the engine was a crate of its own.
const ENGINES: [&str; 2] = ["go-metro-rtt/src/lib.rs", "go-metro-userspace/src/rtt/mod.rs"];

/// Where both are built.
fn directory() -> PathBuf {
    testing_support::workspace::target().join("bench-engines")
}

/// What a record costs, as times of what it cost at `commit`.
pub(super) fn table(args: &Args, commit: &str) -> Result<Table> {
    testing_support::setup::for_build()?;
    let commit = capture(Command::new("git").current_dir(root()).args(["rev-parse", "--short", commit]))?;
    let tree = directory().join(format!("tree-{commit}"));
    fs::create_dir_all(&tree)?;
    let archive = tree.join("tree.tar");
    let engine = ENGINES
        .into_iter()
        .find(|path| {
            let object = format!("{commit}:{path}");
            let known = Command::new("git")
                .current_dir(root())
                .args(["cat-file", "-e", &object])
                .stderr(Stdio::null())
                .status();
            known.is_ok_and(|status| status.success())
        })
        .with_context(|| format!("{commit} has no engine in any of {ENGINES:?}"))?;
    run(Command::new("git")
        .current_dir(root())
        .args(["archive", "--format=tar", "-o"])
        .arg(&archive)
        .arg(&commit)
        .arg("go-metro-common/src")
        .args(Path::new(engine).parent()))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&tree))?;
    let programs = [built("before", &tree, engine)?, built("now", &root(), ENGINES[0])?];

    let mut table = Table::new("engine-baseline", &["load", "flows", "ns a record", "times", "with summaries, times"]);
    for (load, name) in LOADS {
        for flows in FLOWS {
            let arguments = [load, &flows.to_string()];
            let [mut before, mut now] =
                [Server::start(&programs[0], &arguments)?, Server::start(&programs[1], &arguments)?];
            let [alone, summarised] = CASES
                .map(|case| rounds(args.rounds, 2, |turn| if turn == 0 { before.ask(case) } else { now.ask(case) }));
            let (alone, summarised) = (alone?, summarised?);
            table.row([
                name.to_owned(),
                flows.to_string(),
                format!("{:.1}", alone[1].value()),
                format!("{:.2}", alone[1].ratio()),
                format!("{:.2}", summarised[1].ratio()),
            ]);
        }
    }
    table.note(format!(
        "Processor time of one core, median (quartiles) of {} rounds. Times: of what the same record cost at {commit} \
         in \
         the same round.",
        args.rounds
    ));
    Ok(table)
}

/// Builds the loads of this tree with the engine of the one at `tree`, whose first file is `engine`.
fn built(name: &str, tree: &Path, engine: &str) -> Result<PathBuf> {
    let place = directory().join(name);
    let engine = tree.join(engine);
    // Once a module of a crate, it is made a crate by a file that hands on its names.
    let library = if engine.ends_with("lib.rs") { engine.clone() } else { "lib.rs".into() };
    let loads = root().join("go-metro-rtt/benches/engine.rs");
    let package = |name: &str| format!("[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n");
    // Versions are those of the lock file.
    let files = [
        (
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"common\", \"engine\"]\n[profile.release]\npanic = \"abort\"\n\
             lto = \"thin\"\ncodegen-units = 1\n"
                .to_owned(),
        ),
        (
            "common/Cargo.toml",
            format!(
                "{}[features]\nuser = []\n[lib]\npath = {:?}\n",
                package("go-metro-common"),
                tree.join("go-metro-common/src/lib.rs")
            ),
        ),
        (
            "engine/Cargo.toml",
            format!(
                "{}[lib]\nname = \"go_metro_rtt\"\npath = {library:?}\n\
                 [[bin]]\nname = \"engine-{name}\"\npath = {loads:?}\n\
                 [dependencies]\nbitflags = \"2\"\ngo-metro-common = {{ path = \"../common\" }}\nfoldhash = \"*\"\n\
                 nix = {{ version = \"*\", features = [\"time\"] }}\n\
                 hashbrown = {{ version = \"*\", default-features = false, features = [\"inline-more\"] }}\n\
                 serde = {{ version = \"*\", features = [\"derive\"] }}\n\
                 sketches-ddsketch = {{ version = \"*\", features = [\"use_serde\"] }}\n",
                package("go-metro-rtt"),
            ),
        ),
        ("engine/lib.rs", format!("#![allow(dead_code)]\n#[path = {engine:?}]\nmod engine;\npub use engine::*;\n")),
    ];
    for (path, text) in files {
        let path = place.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&place))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::copy(root().join("Cargo.lock"), place.join("Cargo.lock"))?;
    let target = directory().join("target");
    run(cargo().current_dir(&place).args(["build", "--release", "--quiet", "--target-dir"]).arg(&target))?;
    Ok(target.join(format!("release/engine-{name}")))
}
