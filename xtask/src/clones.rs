//! `cargo xtask clones`: the committed tree, cloned where others may clone it, and built and tested there.
//!
//! One clone is root's, below /tmp and in a folder whose name has spaces. The other is an ordinary user's, who has a
//! home and a cargo registry of his own, runs what he may, and is told which steps need root. Nothing but the
//! repository is beside either.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use testing_lab::agent::BINARY_VARIABLE;
use testing_support::setup;
use testing_support::workspace::{capture, cargo_home, root, run};

/// Beside the unit suite: one test each of the lab, of what is shipped, and of the pages.
const TESTS: [(&str, &str); 3] = [
    ("lab", "request_and_response_take_the_delay_and_little_more_on_either_link"),
    ("deploy", "installing_the_package_is_enough_for_a_service_that_measures"),
    ("docs", "every_command_of_every_page_runs_and_prints_what_the_page_shows"),
];
/// Debian's `nobody`, who owns nothing.
const USER: &str = "65534";

/// Arguments of `clones`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Keep the clones, to look at
    #[arg(long)]
    keep: bool,
}

/// Clones, builds and tests.
///
/// # Errors
///
/// Not root, or something fails in a clone.
pub fn main(args: &Args) -> Result<()> {
    setup::for_lab()?;
    let mut work = tempfile::Builder::new().prefix("go-metro clones ").tempdir_in("/tmp")?;
    work.disable_cleanup(args.keep);
    let place = work.path();
    run(Command::new("chmod").arg("755").arg(place))?;
    let bundle = place.join("committed.bundle");
    capture(Command::new("git").args(["bundle", "create", "--quiet"]).arg(&bundle).arg("HEAD").current_dir(root()))?;

    let ours = place.join("as root");
    println!("\n=== {}", ours.display());
    capture(clone(&bundle, &ours).current_dir(place))?;
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&ours).env("CI", "true");
        in_its_own_target(&mut command);
        command
    };
    run(&mut cargo(&["xtask", "build-ebpf"]))?;
    run(&mut cargo(&["test", "--quiet"]))?;
    end_to_end(&ours)?;

    let home = place.join("home");
    fs::create_dir(&home)?;
    run(Command::new("chown").arg(format!("{USER}:{USER}")).arg(&home))?;
    let theirs = home.join("go-metro");
    println!("\n=== {}, as an ordinary user", theirs.display());
    let user = User { home: &home, place };
    capture(&mut user.command(&home, "git", &["clone", "--quiet", &bundle.to_string_lossy(), "go-metro"])?)?;
    let said = capture(&mut user.command(&theirs, "cargo", &["xtask", "test", "config"])?)?;
    println!("{said}");
    ensure!(said.contains("need root") && said.contains("sudo "), "nobody says which steps need root");
    end_to_end(&theirs)
}

fn clone(bundle: &Path, to: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["clone", "--quiet"]).arg(bundle).arg(to);
    command
}

/// Has cargo build below the clone, whatever is set for this one.
fn in_its_own_target(cargo: &mut Command) -> &mut Command {
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR")
}

/// Runs [`TESTS`] in a clone, as root.
fn end_to_end(clone: &Path) -> Result<()> {
    for arguments in [["xtask", "setup"], ["build", "--quiet"]] {
        let mut command = Command::new("cargo");
        run(in_its_own_target(command.args(arguments).current_dir(clone).env("CI", "true")))?;
    }
    for (program, test) in TESTS {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet", "--test", program, "--", "--test-threads=1", test]).current_dir(clone);
        command.env(BINARY_VARIABLE, clone.join("target/debug/go-metro"));
        // As sudo does it, so that git takes root for the owner.
        command.env("SUDO_UID", USER);
        in_its_own_target(&mut command);
        let said = capture(&mut command)?;
        ensure!(said.contains("test result: ok. 1 passed"), "{program} has no test {test}:\n{said}");
        println!("{test}: ok");
    }
    Ok(())
}

/// Someone without rights, who has this machine's toolchain and nothing else of ours.
struct User<'a> {
    home: &'a Path,
    place: &'a Path,
}

impl User<'_> {
    /// A command of theirs. The toolchain is usually in a directory that only root may enter; they see it elsewhere.
    fn command(&self, directory: &Path, program: &str, arguments: &[&str]) -> Result<Command> {
        let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
        let [toolchain, tools] = ["toolchain", "tools"].map(|name| self.place.join(name));
        for mount_point in [&toolchain, &tools] {
            fs::create_dir_all(mount_point)?;
        }
        let configuration = cargo_home()?.join("config.toml");
        if configuration.exists() {
            let copy = self.home.join(".cargo/config.toml");
            fs::create_dir_all(self.home.join(".cargo"))?;
            fs::copy(configuration, copy)?;
            run(Command::new("chown").args(["-R", USER]).arg(self.home.join(".cargo")))?;
        }
        let script = "mount --bind \"$1\" \"$2\" && mount --bind \"$3\" \"$4\" && shift 4 && \
                      exec setpriv --reuid=$0 --regid=$0 --clear-groups \"$@\"";
        let mut path = OsString::from(toolchain.join("bin"));
        path.push(":");
        path.push(&tools);
        path.push(":/usr/local/bin:/usr/bin:/bin");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, USER]);
        command.arg(sysroot).arg(&toolchain).arg(cargo_home()?.join("bin")).arg(&tools);
        command.arg(program).args(arguments).current_dir(directory);
        command.env("HOME", self.home).env("PATH", path).env("CI", "true");
        for name in ["CARGO", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "RUSTUP_HOME"] {
            command.env_remove(name);
        }
        in_its_own_target(&mut command);
        Ok(command)
    }
}
