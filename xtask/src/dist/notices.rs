//! The licences of what is linked into the binary, which its distribution has to bring along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Release;
use testing_support::workspace::{capture, cargo, metadata, root};

/// What it is called wherever it is shipped.
pub(super) const NAME: &str = "THIRD-PARTY-NOTICES";

/// How files that have licences begin.
const FILES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

/// Whose crates are linked: the daemon's, and those of the classifier that it embeds.
const PROGRAMS: [&str; 2] = ["go-metro-userspace", "go-metro-ebpf"];

/// A crate of others.
struct Crate {
    name: String,
    licence: String,
    folder: PathBuf,
}

/// All of them, each text once.
pub(super) fn text(release: &Release) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = String::new();
    for linked in crates(release)? {
        writeln!(all, "  {}: {}", linked.name, linked.licence)?;
        for text in licences(&linked.folder)? {
            texts.entry(text).or_default().insert(linked.name.clone());
        }
    }
    let mut more = vec!["libpcap"];
    if release.glibc.is_none() {
        more.push("musl");
    }
    for name in more {
        writeln!(all, "  {name}")?;
        let text = fs::read_to_string(root().join("packaging/licences").join(name))?;
        texts.entry(text.trim_end().to_owned()).or_default().insert(name.to_owned());
    }
    if let Some(text) = standard_library()? {
        texts.entry(text).or_default().insert("the Rust standard library".to_owned());
    }
    let mut notices = format!(
        "go-metro is licensed under MIT or Apache-2.0. Into its program are linked the Rust standard library (MIT or \
         Apache-2.0)\nand, where a choice is given, at the choice of who distributes it:\n\n{all}"
    );
    for (text, names) in texts {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        write!(notices, "\n{}\n{names}\n\n{text}\n", "=".repeat(80))?;
    }
    Ok(notices)
}

/// What cargo links, sorted; none of what only builds it.
fn crates(release: &Release) -> Result<Vec<Crate>> {
    let libc = if release.glibc.is_some() { "gnu" } else { "musl" };
    let target = format!("{}-unknown-linux-{libc}", release.architecture);
    let metadata = metadata(&mut cargo(), &["--locked", "--filter-platform", &target])?;
    let by_id = |list: &Value, what: &str| -> Result<BTreeMap<String, Value>> {
        let list = list.as_array().with_context(|| format!("cargo metadata has no {what}"))?;
        Ok(list.iter().map(|entry| (entry["id"].as_str().unwrap_or_default().to_owned(), entry.clone())).collect())
    };
    let packages = by_id(&metadata["packages"], "packages")?;
    let nodes = by_id(&metadata["resolve"]["nodes"], "graph")?;
    let is = |id: &str, name: &str| packages.get(id).is_some_and(|package| package["name"] == name);
    let mut queue: Vec<&str> =
        packages.keys().map(String::as_str).filter(|id| PROGRAMS.iter().any(|name| is(id, name))).collect();
    ensure!(queue.len() == PROGRAMS.len(), "cargo metadata does not have both of {PROGRAMS:?}");
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop() {
        let package = packages.get(id).with_context(|| format!("cargo metadata has no {id}"))?;
        // A macro runs in the compiler, and so does what it stands on.
        let kinds = package["targets"].as_array().into_iter().flatten();
        let is_macro = kinds.clone().any(|target| target["kind"].to_string().contains("proc-macro"));
        if is_macro || !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            // `null` is a dependency of the program, others are of its tests and its build.
            let linked = dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
            queue.extend(dependency["pkg"].as_str().filter(|_| linked));
        }
    }
    let mut crates = Vec::new();
    // Those without a source are this workspace's own.
    for package in seen.iter().filter_map(|id| packages.get(*id)).filter(|package| !package["source"].is_null()) {
        let word = |name: &str| package[name].as_str().unwrap_or_default();
        ensure!(!word("license").is_empty() || package["license_file"].is_string(), "{} has no licence", word("name"));
        crates.push(Crate {
            name: format!("{} {}", word("name"), word("version")),
            licence: word("license").to_owned(),
            folder: Path::new(word("manifest_path")).parent().context("a manifest at the root")?.to_path_buf(),
        });
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(crates)
}

/// The texts in a crate's folder, or in those folders of it that are for them.
fn licences(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if !FILES.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            for file in fs::read_dir(entry.path())? {
                texts.extend(readable(&file?.path()));
            }
        } else {
            texts.extend(readable(&entry.path()));
        }
    }
    texts.sort();
    Ok(texts)
}

/// A file's text, without what differs between copies of the same.
fn readable(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Some(lines.join("\n").trim_matches('\n').to_owned()).filter(|text| !text.is_empty())
}

/// What the compiler brings for its library: none where it is packed without, as by distributions.
fn standard_library() -> Result<Option<String>> {
    let sysroot = PathBuf::from(capture(Command::new("rustc").args(["--print", "sysroot"]))?);
    let Ok(page) = fs::read_to_string(sysroot.join("share/doc/rust/COPYRIGHT-library.html")) else { return Ok(None) };
    Ok(Some(without_markup(&page)))
}

/// A page's words.
fn without_markup(page: &str) -> String {
    let mut text = String::new();
    let mut parts = page.split('<');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        text.push_str(part.split_once('>').map_or("", |(_, words)| words));
    }
    for (entity, character) in [
        ("&#60;", "<"),
        ("&lt;", "<"),
        ("&#62;", ">"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
    ] {
        text = text.replace(entity, character);
    }
    let text = text.replace("&#38;", "&").replace("&amp;", "&");
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_named_with_its_licence_and_what_only_builds_it_is_not() {
        let release = |glibc| Release { version: "1".to_owned(), glibc, architecture: std::env::consts::ARCH };
        let dynamic = text(&release(Some("2.34".to_owned()))).unwrap();
        // The daemon's, the classifier's, and C's; each with whose it is.
        for part in ["  tokio 1", "  aya 0", "  aya-ebpf 0", "  libpcap", "Copyright (c) Tokio Contributors"] {
            assert!(dynamic.contains(part), "{part}");
        }
        assert!(dynamic.contains("The Regents of the University of California"));
        for absent in ["  syn ", "  proptest ", "  musl", "  cc "] {
            assert!(!dynamic.contains(&format!("\n{absent}")), "{absent}");
        }
        assert!(text(&release(None)).unwrap().contains("Rich Felker"));
    }

    #[test]
    fn a_page_s_words_are_left_of_it() {
        assert_eq!(without_markup("<p>a &#60;b&gt;</p>\n\n\n<b>c &#38; d</b>"), "a <b>\n\nc & d");
    }
}
