//! The Debian archive among apt's sources: `sources.list(5)` in both styles, and lists of mirrors
//! (`apt-transport-mirror(1)`).

use std::fs;
use std::path::{Path, PathBuf};

/// Used where apt has no Debian archive, as on Ubuntu.
const DEBIAN: &str = "https://deb.debian.org/debian";

/// Of [`DEBIAN`], the older first: its programs run with older C libraries too.
const SUITES: [&str; 2] = ["oldstable", "stable"];

/// Debian's own keyring, where the system has it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive signing keys of Debian 11 to 13, for systems without [`KEYRING`]. Their fingerprints, as on
/// <https://ftp-master.debian.org/keys.html>: 1F89983E0081FDE018F3CC9673A4F27B8DD47936,
/// B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8, 04B54C3CDCA79751B16BC6B5225629DF75B188BD.
const KEYS: &str = include_str!("../../keys/debian-archive.asc");

/// An archive that apt can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where it is.
    pub uri: String,
    /// A file's name, or a block of keys as it stands below `Signed-By:`.
    signed_by: Option<String>,
    /// Those that the machine uses.
    pub suites: Vec<String>,
}

impl Mirror {
    /// One suite of it as a source of binary packages (`deb`) or source packages (`deb-src`), in deb822 style.
    pub(super) fn source(&self, kind: &str, suite: &str) -> String {
        let keys = self.signed_by.as_ref().map(|keys| format!("Signed-By: {keys}\n")).unwrap_or_default();
        format!("Types: {kind}\nURIs: {}\nSuites: {suite}\nComponents: main\n{keys}", self.uri)
    }

    /// The main archive, not the one for security updates or someone else's packages.
    fn is_debian(&self) -> bool {
        self.uri.trim_end_matches('/').ends_with("/debian")
    }

    /// Whether the project's own servers have it: others offer packages for Debian at such an address too.
    fn is_official(&self) -> bool {
        self.uri.contains("debian.org/")
    }
}

/// One source of apt's configuration; each of its addresses has the same packages.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    signed_by: Option<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The Debian archive in this machine's apt configuration; where there is none, Debian's own, which is said.
#[must_use]
pub fn mirror() -> Mirror {
    if let Some(mirror) = configured(Path::new("/etc/apt")) {
        return mirror;
    }
    eprintln!("no Debian archive among apt's sources (/etc/apt/sources.list, sources.list.d): using {DEBIAN}");
    debian(Path::new(KEYRING))
}

/// Debian's own archive, verified by `keyring`, or by [`KEYS`] where that is not there.
fn debian(keyring: &Path) -> Mirror {
    let keys = if keyring.exists() {
        keyring.display().to_string()
    } else {
        // A block of keys is written below the field's name, with a full stop for a blank line.
        KEYS.lines().map(|line| format!("\n {}", if line.is_empty() { "." } else { line })).collect()
    };
    Mirror { uri: DEBIAN.to_owned(), signed_by: Some(keys), suites: SUITES.map(str::to_owned).to_vec() }
}

/// The Debian archive that the configuration in `etc` names, the project's own servers first.
fn configured(etc: &Path) -> Option<Mirror> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files[1..].sort();
    let sources = files.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => paragraphs(&text),
            Some("list") => lines(&text),
            _ => Vec::new(),
        }
    });
    let mirrors: Vec<Mirror> = sources.flat_map(|source| mirrors(&source)).filter(Mirror::is_debian).collect();
    mirrors.iter().find(|mirror| mirror.is_official()).or(mirrors.first()).cloned()
}

/// A mirror for each address of a source that has Debian's component `main`.
fn mirrors(source: &Source) -> Vec<Mirror> {
    if !source.components.iter().any(|component| component == "main") {
        return Vec::new();
    }
    let uris = source.uris.iter().flat_map(|uri| resolved(uri));
    uris.map(|uri| Mirror { uri, signed_by: source.signed_by.clone(), suites: source.suites.clone() }).collect()
}

/// The address itself, or those in the local list of mirrors that it names.
fn resolved(uri: &str) -> Vec<String> {
    let Some(file) = uri.strip_prefix("mirror+file:") else { return vec![uri.to_owned()] };
    let file = PathBuf::from(format!("/{}", file.trim_start_matches('/')));
    let text = fs::read_to_string(file).unwrap_or_default();
    // The address, then words such as `priority:1`.
    let addresses = text.lines().filter_map(|line| line.split_whitespace().next());
    addresses.filter(|address| !address.starts_with('#')).map(str::to_owned).collect()
}

/// One-line style: `deb [options] URI suite component...`.
fn lines(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim().strip_prefix("deb")?;
            let line = line.strip_prefix([' ', '\t'])?.trim_start();
            let (options, rest) = match line.strip_prefix('[') {
                Some(line) => line.split_once(']')?,
                None => ("", line),
            };
            let mut words = rest.split_whitespace().map(str::to_owned);
            let uris = vec![words.next()?];
            let suites = words.next().into_iter().collect();
            let signed_by =
                options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
            Some(Source { uris, signed_by, suites, components: words.collect() })
        })
        .collect()
}

/// deb822 style: paragraphs of `Key: value`, which may go on in lines that begin with a blank.
fn paragraphs(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(|paragraph| {
            let field = |name: &str| {
                let mut lines = paragraph
                    .iter()
                    .skip_while(|line| !line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)));
                let value = lines.next()?.split_once(':')?.1.trim().to_owned();
                let more = lines.take_while(|line| line.starts_with([' ', '\t']));
                Some(more.fold(value, |value, line| format!("{value}\n {}", line.trim())))
            };
            let words = |name: &str| -> Vec<String> {
                field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
            };
            let is_enabled = field("Enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
            if !is_enabled || !words("Types").iter().any(|kind| kind == "deb") {
                return None;
            }
            let signed_by = field("Signed-By");
            Some(Source { uris: words("URIs"), signed_by, suites: words("Suites"), components: words("Components") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a configuration of these files; `LISTS` in them is the folder that they are in.
    fn found(files: &[(&str, &str)]) -> Option<Mirror> {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(etc.path().join(name), text.replace("LISTS", &etc.path().to_string_lossy())).unwrap();
        }
        configured(etc.path())
    }

    #[test]
    fn both_styles_of_apt_configuration_give_the_mirror() {
        let new = "Types: deb\n# note\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n\
                   Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        let expected = Mirror {
            uri: "http://deb.debian.org/debian".to_owned(),
            signed_by: Some("/usr/share/keyrings/debian-archive-keyring.gpg".to_owned()),
            suites: vec!["trixie".to_owned()],
        };
        assert_eq!(found(&[("sources.list.d/debian.sources", new)]), Some(expected));
        let old = "# deb http://no/debian x main\ndeb-src http://no/debian x main\n\
                   deb http://m/debian-security trixie-security main\n\
                   deb [arch=amd64 signed-by=/k.gpg] http://m/debian/ trixie main # ours\n";
        let mirror = found(&[("sources.list", old)]).unwrap();
        let sid = "Types: deb\nURIs: http://m/debian/\nSuites: sid\nComponents: main\nSigned-By: /k.gpg\n";
        assert_eq!(mirror.source("deb", "sid"), sid);
        assert_eq!(mirror.suites, ["trixie"]);
    }

    #[test]
    fn a_list_of_mirrors_gives_the_one_that_is_debians() {
        // As Debian's cloud images have it.
        let sources = "Types: deb deb-src\nURIs: mirror+file://LISTS/debian-security.mirrors\n\
                       Suites: trixie-security\nComponents: main\n \n\
                       Types: deb deb-src\nURIs:\n mirror+file://LISTS/debian.mirrors\n\
                       Suites: trixie trixie-updates\n trixie-backports\nComponents: main\n";
        let lists = [
            ("sources.list.d/debian.sources", sources),
            ("debian-security.mirrors", "https://deb.debian.org/debian-security\n"),
            ("debian.mirrors", "# nearest first\nhttps://deb.debian.org/debian\tpriority:1\n"),
        ];
        let mirror = found(&lists).unwrap();
        assert_eq!(mirror.uri, "https://deb.debian.org/debian");
        assert_eq!(mirror.suites, ["trixie", "trixie-updates", "trixie-backports"]);
    }

    #[test]
    fn other_archives_are_not_taken_for_debians() {
        // As on GitHub's machines, and with packages of others for Debian.
        let ubuntu = "Types: deb\nURIs: mirror+file:LISTS/mirrors.txt\nSuites: noble\nComponents: main\n";
        let mirrors = "http://azure.archive.ubuntu.com/ubuntu/\tpriority:1\nhttps://archive.ubuntu.com/ubuntu/\n";
        let docker = "deb https://download.docker.com/linux/debian noble stable\n";
        let raspberry = "deb http://archive.raspberrypi.com/debian bookworm main\n";
        let source = "Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: sid\nComponents: main\n";
        let off = "Enabled: No\nTypes: deb\nURIs: http://deb.debian.org/debian\nSuites: sid\nComponents: main\n";
        let files = [
            ("sources.list.d/ubuntu.sources", ubuntu),
            ("mirrors.txt", mirrors),
            ("sources.list.d/docker.list", docker),
            ("sources.list.d/source.sources", source),
            ("sources.list.d/off.sources", off),
        ];
        assert_eq!(found(&files), None);
        let debian = "deb http://deb.debian.org/debian bookworm main\n";
        let both = found(&[("sources.list", raspberry), ("sources.list.d/debian.list", debian)]).unwrap();
        assert_eq!(both.uri, "http://deb.debian.org/debian");
    }

    #[test]
    fn keys_that_stand_in_the_configuration_are_used_and_without_any_those_in_the_repository() {
        let source = debian(Path::new("/no/such/keyring")).source("deb", "sid");
        assert!(source.contains("Components: main\nSigned-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n"));
        let mirror = found(&[("sources.list.d/debian.sources", &source)]).unwrap();
        assert_eq!(
            mirror.source("deb", "sid").split_whitespace().collect::<Vec<_>>(),
            source.split_whitespace().collect::<Vec<_>>()
        );
        let keyring = tempfile::NamedTempFile::new().unwrap();
        let named = debian(keyring.path()).source("deb", "sid");
        assert!(named.ends_with(&format!("Signed-By: {}\n", keyring.path().display())), "{named}");
    }
}
