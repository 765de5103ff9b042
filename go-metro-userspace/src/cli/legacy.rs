//! The original's command line: `go-metro -cfg=PATH -log=PATH -f=FILTER -st=N`.
//!
//! Go's flag package takes one dash or two, and the value behind `=` or as the next argument; a switch takes none but
//! behind `=`. Scripts and supervisor files that start the original so start `go-metro run` unchanged.

use std::ffi::{OsStr, OsString};

/// Where the original's configuration may be: where Agent v5 kept it and named it with `-cfg`, and where the original
/// looked without `-cfg`.
pub(super) const ORIGINAL_CONFIGS: [&str; 2] =
    ["/etc/dd-agent/conf.d/go-metro.yaml", "/etc/dd-agent/checks.d/go-metro.yaml"];

/// The original's flags.
const FLAGS: [(&str, Flag); 4] = [
    ("cfg", Flag::Value("--config")),
    ("log", Flag::Value("--log-file")),
    ("f", Flag::Value("--filter")),
    ("st", Flag::IgnoredSwitch),
];

/// What becomes of a flag.
#[derive(Clone, Copy)]
enum Flag {
    /// It has a value, and `run` calls it so.
    Value(&'static str),
    /// A switch that the original parsed and never used.
    IgnoredSwitch,
}

/// Turns the original's arguments into ours; others pass untouched.
pub(super) fn translate(arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(first) = arguments.get(1) else { return arguments };
    if flag(first).is_none() {
        return arguments;
    }
    let mut translated = vec![arguments[0].clone(), OsString::from("run")];
    let mut rest = arguments.into_iter().skip(1);
    while let Some(argument) = rest.next() {
        match flag(&argument) {
            // Without a value, clap says that one is missing.
            Some((Flag::Value(ours), value)) => {
                translated.push(OsString::from(ours));
                translated.extend(value.or_else(|| rest.next()));
            }
            Some((Flag::IgnoredSwitch, _)) => {}
            None => translated.push(argument),
        }
    }
    translated
}

/// One of the original's flags, and the value behind `=`.
fn flag(argument: &OsStr) -> Option<(Flag, Option<OsString>)> {
    // Paths that are not UTF-8 could only stand behind `=`; the original's users have none.
    let text = argument.to_str()?;
    let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (bare, None),
    };
    FLAGS.iter().find(|(theirs, _)| *theirs == name).map(|(_, flag)| (*flag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        translate(arguments).iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_originals_invocation_becomes_run() {
        assert_eq!(
            translated("go-metro -cfg=/a.yaml -log=/b.log -f=tcp"),
            "go-metro run --config /a.yaml --log-file /b.log --filter tcp"
        );
        assert_eq!(translated("go-metro --cfg /a.yaml -log /b"), "go-metro run --config /a.yaml --log-file /b");
    }

    #[test]
    fn the_switch_that_the_original_ignored_takes_no_other_argument_with_it() {
        for line in ["go-metro -st -cfg=/a.yaml", "go-metro -st=false --cfg /a.yaml", "go-metro -cfg /a.yaml --st"] {
            assert_eq!(translated(line), "go-metro run --config /a.yaml", "{line}");
        }
    }

    #[test]
    fn a_flag_without_its_value_is_left_for_clap_to_complain_of() {
        assert_eq!(translated("go-metro -cfg"), "go-metro run --config");
    }

    #[test]
    fn ours_passes_untouched() {
        for line in ["go-metro", "go-metro run -c x", "go-metro --help", "go-metro read f --local 10.0.0.1"] {
            assert_eq!(translated(line), line);
        }
    }
}
