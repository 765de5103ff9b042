//! The original's command line: `go-metro -cfg=PATH -log=PATH -f=FILTER -st=N`.
//!
//! Go's flag package takes one dash or two, and the value behind `=` or as the next argument. Scripts and
//! supervisor files that start the original so start `go-metro run` unchanged.

use std::ffi::{OsStr, OsString};

/// Where the original looked for its configuration without `-cfg`.
pub(super) const ORIGINAL_CONFIG: &str = "/etc/dd-agent/conf.d/go-metro.yaml";

/// The original's flags and what `run` calls them; `None` for what is parsed and ignored, as the original did.
const FLAGS: [(&str, Option<&str>); 4] =
    [("cfg", Some("--config")), ("log", Some("--log-file")), ("f", Some("--filter")), ("st", None)];

/// Turns the original's arguments into ours; others pass untouched.
pub(super) fn translate(arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(first) = arguments.get(1) else { return arguments };
    if flag(first).is_none() {
        return arguments;
    }
    let mut translated = vec![arguments[0].clone(), OsString::from("run")];
    let mut rest = arguments.into_iter().skip(1);
    while let Some(argument) = rest.next() {
        let Some((ours, value)) = flag(&argument) else {
            translated.push(argument);
            continue;
        };
        let value = value.or_else(|| rest.next());
        if let (Some(ours), Some(value)) = (ours, value) {
            translated.extend([OsString::from(ours), value]);
        }
    }
    translated
}

/// Our name of one of the original's flags, and the value behind `=`.
fn flag(argument: &OsStr) -> Option<(Option<&'static str>, Option<OsString>)> {
    // Paths that are not UTF-8 could only stand behind `=`; the original's users have none.
    let text = argument.to_str()?;
    let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (bare, None),
    };
    FLAGS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| (*ours, value))
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
        assert_eq!(translated("go-metro --cfg /a.yaml -st 3 -log /b"), "go-metro run --config /a.yaml --log-file /b");
    }

    #[test]
    fn ours_passes_untouched() {
        for line in ["go-metro", "go-metro run -c x", "go-metro --help", "go-metro read f --local 10.0.0.1"] {
            assert_eq!(translated(line), line);
        }
    }
}
