//! Puts the classifier's object where `capture::ebpf` embeds it from, and fails rather than embed one that is missing or
//! older than its source.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/ebpf_stamp.rs"]
mod ebpf_stamp;

use ebpf_stamp::{OBJECT_INPUTS, source_hash};

/// Where packagers say that their own build of the object is; then nothing is compared.
const OBJECT_VARIABLE: &str = "GO_METRO_EBPF_OBJECT";

fn main() {
    println!("cargo:rerun-if-env-changed={OBJECT_VARIABLE}");
    println!("cargo:rerun-if-changed=build/ebpf_stamp.rs");
    embed_example();
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

/// Puts the commented example where `config` embeds it from: the workspace has it at its root, a package from the registry beside
/// its manifest.
fn embed_example() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let packaged = manifest.join("conf.yaml.example");
    let shared = manifest.join("../conf.yaml.example");
    let example = if shared.exists() { shared } else { packaged };
    println!("cargo:rerun-if-changed={}", example.display());
    if let Err(error) = fs::copy(&example, Path::new(&variable("OUT_DIR")).join("conf.yaml.example")) {
        fail(&format!("cannot copy {}: {error}", example.display()));
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
            format!("there is neither a classifier nor its source here; set {OBJECT_VARIABLE} to its object")
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

/// A variable that cargo always sets.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set: this is to be run by cargo")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    std::process::exit(1);
}
