//! Puts the classifier's object where `capture::ebpf` embeds it from, and fails rather than embed one that is missing
//! or older than its source. Tells the program which commit it is of, too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "build/ebpf_stamp.rs"]
mod ebpf_stamp;

use ebpf_stamp::{OBJECT_INPUTS, source_hash};

/// Where packagers say that their own build of the object is; then nothing is compared.
const OBJECT_VARIABLE: &str = "GO_METRO_EBPF_OBJECT";

/// Where packagers who build without the repository say which commit they build.
const COMMIT_VARIABLE: &str = "GO_METRO_COMMIT";

fn main() {
    println!("cargo:rerun-if-env-changed={COMMIT_VARIABLE}");
    let version = variable("CARGO_PKG_VERSION");
    let version = commit().map_or(version.clone(), |commit| format!("{version} ({commit})"));
    println!("cargo:rustc-env=GO_METRO_VERSION={version}");
    println!("cargo:rerun-if-env-changed={OBJECT_VARIABLE}");
    println!("cargo:rerun-if-changed=build/ebpf_stamp.rs");
    match object() {
        Ok(object) => {
            println!("cargo:rerun-if-changed={}", object.display());
            let embedded = Path::new(&variable("OUT_DIR")).join("go-metro.o");
            if let Err(error) = fs::copy(&object, &embedded) {
                fail(&format!("cannot copy the classifier's object {}: {error}", object.display()));
            }
        }
        Err(why) => fail(&why),
    }
}

/// The object to embed, or what to do to get it.
fn object() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE) {
        return Ok(path.into());
    }
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().unwrap_or(&manifest);
    // A package from the registry brings the object, and has no source to compare it with.
    if !workspace.join("go-metro-ebpf/Cargo.toml").exists() {
        let packaged = manifest.join("classifier.o");
        return packaged.exists().then_some(packaged).ok_or_else(|| {
            format!("found neither the classifier nor its source; set {OBJECT_VARIABLE} to the classifier's object")
        });
    }
    for input in OBJECT_INPUTS {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    let object = workspace.join("target/ebpf/go-metro.o");
    let stamp = object.with_extension("stamp");
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rerun-if-changed={}", stamp.display());

    let source = source_hash(workspace).map_err(|error| format!("cannot read the classifier's source: {error}"))?;
    match fs::read_to_string(&stamp) {
        Ok(built) if built.trim() == source && object.exists() => Ok(object),
        Ok(_) if object.exists() => Err(format!(
            "the classifier's object {} is older than its source: run `cargo xtask build-ebpf`",
            object.display()
        )),
        _ => Err(format!("the classifier's object {} is missing: run `cargo xtask build-ebpf`", object.display())),
    }
}

/// The commit of the source, shortened; none in a source archive that does not say.
fn commit() -> Option<String> {
    if let Ok(commit) = env::var(COMMIT_VARIABLE) {
        return Some(short(&commit)).filter(|commit| !commit.is_empty());
    }
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    // `cargo package` leaves it there.
    let packaged = manifest.join(".cargo_vcs_info.json");
    if packaged.exists() {
        let text = fs::read_to_string(packaged).ok()?;
        return text.split_once("\"sha1\": \"").map(|(_, rest)| short(rest));
    }
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&manifest).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // An archive that was unpacked in some other repository is not of its commit.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // The branch's log changes with every commit; HEAD when another branch is checked out.
    for name in ["HEAD", "logs/HEAD"] {
        let path = manifest.join(git(&["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "HEAD"]).map(|commit| short(&commit))
}

/// As many digits as tell commits apart.
fn short(commit: &str) -> String {
    commit.chars().take_while(char::is_ascii_hexdigit).take(12).collect()
}

/// A variable that cargo always sets.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set; run this with cargo")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    std::process::exit(1);
}
