//! What `cargo xtask dist` makes of the build under test, in two versions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testing_lab::agent;
use testing_support::workspace::{capture, cargo, output, root};
use xtask::dist::{self, Args, archive, binary};

/// Later than any.
pub(crate) const NEXT: &str = "99.0.0";

/// The directory with this version's files and, below `next`, the later ones.
pub(crate) fn shipped() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy");
        if out.exists() {
            // An earlier version of the tasks may have made others than this one knows as its own.
            fs::remove_dir_all(&out).unwrap();
        }
        let make = |version: Option<&str>, out: PathBuf| {
            dist::main(&Args::of(&agent::binary().unwrap(), version, &out)).unwrap();
        };
        make(None, out.clone());
        make(Some(NEXT), out.join("next"));
        out
    })
}

/// The only file there with this extension.
pub(crate) fn file(directory: &Path, extension: &str) -> PathBuf {
    let mut files = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[test]
fn the_binary_needs_no_library_but_those_of_c_and_the_compiler() {
    let needed = binary::needed(&shipped().join("go-metro")).unwrap();
    for library in &needed {
        let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];
        assert!(known.contains(&library.as_str()) || library.starts_with("ld-linux"), "{needed:?}");
    }
    assert!(needed.iter().any(|library| library == "libc.so.6"), "{needed:?}");
    // libpcap is inside: without it nothing could be said of a filter.
    let said = capture(Command::new("strings").arg(shipped().join("go-metro"))).unwrap();
    assert!(said.contains("libpcap version") || said.contains("unknown data link type"), "no libpcap");
}

#[test]
fn what_packs_a_binary_refuses_one_that_needs_more() {
    let out = tempfile::tempdir().unwrap();
    // Python's program or bash, whatever is there that needs another library.
    let bash = Path::new("/bin/bash");
    let error = binary::strip(bash, &out.path().join("bash")).unwrap_err();
    assert!(error.to_string().contains("needs libtinfo.so"), "{error}");
}

#[test]
fn the_same_binary_gives_the_same_packages_byte_for_byte_wherever_they_are_made() {
    let out = tempfile::tempdir().unwrap();
    let again = out.path().join("again");
    let make = |folder: &Path, prefix: &str| {
        let mut shell = Command::new("unshare");
        let script = format!("hostname elsewhere; umask 077; {prefix} exec \"$@\"");
        shell.args(["--uts", "sh", "-euc", &script, "sh"]).arg(testing_e2e::xtask()).args(["dist", "--out"]);
        shell.arg(folder).arg("--binary").arg(agent::binary().unwrap()).env("TZ", "Asia/Kathmandu");
        capture(&mut shell).unwrap();
    };
    make(&again, "");
    for extension in ["deb", "rpm"] {
        let [first, second] = [shipped(), &again].map(|folder| fs::read(file(folder, extension)).unwrap());
        assert!(first == second, "{extension}: {} and {} bytes", first.len(), second.len());
    }
    // The image's files.
    let listing = |folder: &Path| {
        let mut find = Command::new("find");
        find.args([".", "-printf", "%m %s %Ts %p\n"]).current_dir(folder.join("rootfs"));
        let mut lines: Vec<String> = capture(&mut find).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        // The directories above were changed when `tmp` was opened.
        lines.into_iter().filter(|line| !line.ends_with(" .")).collect::<Vec<_>>()
    };
    assert_eq!(listing(shipped()), listing(&again));
    // All of it is for everyone to read, and nothing to write.
    let modes = |line: &str| capture(Command::new("sh").args(["-euc", line]).current_dir(&again)).unwrap();
    let deb = modes("dpkg-deb --contents go-metro_*.deb");
    for line in deb.lines() {
        let mode = line.split(' ').next().unwrap();
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&mode), "{line}");
    }
    let rpm = modes("rpm --query --package --queryformat '[%{FILEMODES:perms} %{FILENAMES}\\n]' *.rpm");
    for line in rpm.lines() {
        let mode = line.split(' ').next().unwrap();
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&mode), "{line}");
    }
    assert_eq!(modes("find . -maxdepth 1 -type f -not -name '.*' -not -perm -444"), "");
    assert_eq!(modes("rpm --query --package --queryformat '%{BUILDHOST}' *.rpm"), "localhost");

    // The time of the source, told from outside, is that of every file; and another second makes another chart only if
    // that is so.
    let told = out.path().join("told");
    make(&told, "SOURCE_DATE_EPOCH=1000000000");
    let dates = capture(
        Command::new("sh")
            .args(["-euc", "dpkg-deb --contents go-metro_*.deb && tar --list --verbose --file go-metro-*.tgz"])
            .env("TZ", "UTC")
            .current_dir(&told),
    );
    for line in dates.unwrap().lines() {
        assert!(line.contains(" 2001-09-09 01:46 "), "{line}");
    }
}

#[test]
fn what_is_linked_in_is_shipped_with_its_licences() {
    let shell = |line: &str| capture(Command::new("sh").args(["-euc", line]).current_dir(shipped())).unwrap();
    let deb =
        "dpkg-deb --fsys-tarfile go-metro_*.deb | tar -xO ./usr/share/doc/go-metro/THIRD-PARTY-NOTICES.gz | gunzip";
    let sum = shell(&format!("{deb} | sha256sum")).replace(" -", "");
    let rpm = shell("rpm --query --package --queryformat '[%{FILENAMES} %{FILEDIGESTS}\\n]' *.rpm");
    assert!(rpm.contains(&format!("/usr/share/licenses/go-metro/THIRD-PARTY-NOTICES {}", sum.trim())), "{rpm}");
    let image = shell("cat rootfs/*/usr/share/licenses/go-metro/THIRD-PARTY-NOTICES | sha256sum");
    assert_eq!(image.replace(" -", "").trim(), sum.trim());
    let deb = shell(deb);
    // By cargo's own account.
    let mut tree = cargo();
    tree.args(["tree", "--package", "go-metro-userspace", "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    let tree = capture(tree.args(["--format", "{p}"]).current_dir(root())).unwrap();
    let crates: Vec<&str> = tree.lines().filter(|line| !line.contains('(')).collect();
    assert!(crates.len() > 50, "{tree}");
    for line in crates {
        let named = format!("\n  {}: ", line.replace(" v", " "));
        assert!(deb.contains(&named), "{line}");
    }
    assert!(deb.contains("The Regents of the University of California"), "libpcap's");
}

#[test]
fn no_package_names_an_address_that_could_be_somebody_s() {
    let shell = |line: &str| capture(Command::new("sh").args(["-euc", line]).current_dir(shipped())).unwrap();
    for said in [shell("dpkg-deb --field go-metro_*.deb Maintainer"), shell("rpm --query --package --info *.rpm")] {
        let words = said.split_whitespace().filter(|word| word.contains('@'));
        let addresses: Vec<&str> = words.map(|word| word.trim_matches(['<', '>'])).collect();
        // RFC 2606, section 2: no host has that name.
        assert!(addresses.iter().all(|address| address.ends_with(".invalid")), "{said}");
    }
    let manifest = fs::read_to_string(root().join("packaging/datadog/manifest.json")).unwrap();
    assert!(!manifest.contains('@'), "{manifest}");
}

#[test]
fn links_of_installed_pages_lead_to_installed_pages_or_to_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    capture(Command::new("dpkg-deb").arg("--extract").arg(file(shipped(), "deb")).arg(folder.path())).unwrap();
    let pages = folder.path().join("usr/share/doc/go-metro/docs");
    let mut links = 0;
    for page in fs::read_dir(&pages).unwrap().map(|page| page.unwrap().path()) {
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for part in fs::read_to_string(&page).unwrap().split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            links += 1;
            assert!(
                target.is_empty() || target.contains("://") || pages.join(target).is_file(),
                "{}: {target}",
                page.display()
            );
        }
    }
    assert!(links > 50, "{links}");
}

/// The shell of a step in the workflow that publishes a release.
fn release_step(name: &str) -> String {
    let workflow = fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    let (_, step) = workflow.split_once(&format!("- name: {name}\n")).expect(name);
    let (_, script) = step.split_once("run: |\n").expect(name);
    script
        .lines()
        .take_while(|line| line.starts_with("          "))
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect()
}

#[test]
fn a_downloaded_release_passes_its_own_checksums() {
    let clone = tempfile::tempdir().unwrap();
    let out = clone.path().join("target/dist");
    fs::create_dir_all(&out).unwrap();
    // As `dist --static` names them.
    let names = ["x.tar.gz", "x.deb", "x.rpm", "x.tgz", "x.cdx.json"];
    let made = names.map(|name| out.join(name));
    for file in &made {
        fs::write(file, file.as_os_str().as_encoded_bytes()).unwrap();
    }
    fs::write(out.join("go-metro-x86_64"), "for the tests").unwrap();
    archive::checksums(&made, &out).unwrap();
    // What it would upload.
    let download = clone.path().join("download");
    fs::create_dir(&download).unwrap();
    let gh = clone.path().join("gh");
    let uploads = "for file in \"$@\"; do if [ -f \"$file\" ]; then cp \"$file\" \"$DOWNLOAD\"; fi; done";
    fs::write(&gh, format!("#!/bin/sh\n{uploads}\n")).unwrap();
    fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut step = Command::new("sh");
    step.args(["-euc", &release_step("release")]).current_dir(clone.path()).env("GITHUB_REF_NAME", "v1.0.0");
    let path = format!("{}:{}", clone.path().display(), std::env::var("PATH").unwrap());
    capture(step.env("PATH", path).env("DOWNLOAD", &download)).unwrap();
    let said = capture(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&download)).unwrap();
    assert_eq!(said.lines().count(), names.len(), "{said}");
    assert_eq!(fs::read_dir(&download).unwrap().count(), names.len() + 1, "{said}");
}

#[test]
fn debian_s_own_critic_finds_nothing_in_the_package() {
    let said = output(Command::new("lintian").arg("--allow-root").arg(file(shipped(), "deb"))).unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.trim(), "");
}
