//! What is wrong with a configuration, and where: file, line, key, the line itself, and what to do.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}: {what}{quoted}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Key, fault and remedy.
        what: String,
        /// The line, set off below.
        quoted: String,
    },
    /// Something on the command line or in the environment is wrong.
    #[error("{0}")]
    CommandLine(String),
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; write one, or name another with --config",
            io::ErrorKind::PermissionDenied => "; run as a user who may read it",
            io::ErrorKind::InvalidData => "; it must be UTF-8 text",
            _ => "",
        };
        Self::Unreadable { path: path.to_owned(), what: format!("cannot read the configuration: {error}{hint}") }
    }

    /// From serde_yaml's error: `path.to.key: what at line L column C`.
    pub(super) fn from_yaml(path: &Path, text: &str, error: &serde_yaml::Error) -> Self {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        let line = error.location().map_or(1, |location| location.line());
        if let Some((key, valid)) = unknown_field(message) {
            let section = message.split_once(": unknown field").map(|(section, _)| section);
            let line = line_of_key(text, line, key).unwrap_or(line);
            return Self::wrong(path, text, line, &unknown_key(section, key, &valid));
        }
        Self::wrong(path, text, line, message)
    }

    /// A fault of a whole section.
    pub(super) fn in_section(path: &Path, text: &str, section: &str, what: &str) -> Self {
        // What is wrong is named in backquotes: point at the first such key that the file has.
        let named = what.split('`').skip(1).step_by(2).find_map(|key| line_of_key(text, 1, key));
        let line = named.or_else(|| line_of_key(text, 1, section)).unwrap_or(1);
        Self::wrong(path, text, line, &format!("{section}: {what}"))
    }

    /// A fault of a whole instance, counted from 0.
    pub(super) fn in_instance(path: &Path, text: &str, index: usize, what: &str) -> Self {
        let list = ["instances", "config"].iter().find_map(|key| line_of_key(text, 1, key)).unwrap_or(1);
        let items: Vec<(usize, usize)> = text
            .lines()
            .enumerate()
            .skip(list)
            .map(|(line, source)| (line + 1, source.len() - source.trim_start().len(), source.trim_start()))
            .filter(|(_, _, source)| source.starts_with("- ") || *source == "-")
            .map(|(line, indent, _)| (line, indent))
            .collect();
        // Items of inner lists stand deeper than the first instance.
        let outer = items.first().map_or(0, |(_, indent)| *indent);
        let line = items.iter().filter(|(_, indent)| *indent == outer).nth(index).map_or(list, |(line, _)| *line);
        Self::wrong(path, text, line, &format!("instances[{index}]: {what}"))
    }

    /// A fault of a key at the top level.
    pub(super) fn at_key(path: &Path, text: &str, key: &str, what: &str) -> Self {
        Self::wrong(path, text, line_of_key(text, 1, key).unwrap_or(1), &format!("{key}: {what}"))
    }

    fn wrong(path: &Path, text: &str, line: usize, what: &str) -> Self {
        let mut quoted = String::new();
        if let Some(source) = text.lines().nth(line.saturating_sub(1)).filter(|source| !source.trim().is_empty()) {
            // Writing to a string cannot fail.
            let _ = write!(quoted, "\n  {line} | {}", source.trim_end());
        }
        Self::Wrong { path: path.to_owned(), line, what: what.to_owned(), quoted }
    }
}

/// The unknown key and the valid ones, from serde's words: "unknown field `x`, expected one of `a`, `b`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (_, rest) = message.split_once("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}

fn unknown_key(section: Option<&str>, key: &str, valid: &[&str]) -> String {
    let section = section.map_or_else(String::new, |section| format!("{section}: "));
    let nearest = valid.iter().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let nearest = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    format!("{section}unknown key `{key}`{nearest} (valid: {})", valid.join(", "))
}

/// The first line from `from` (counted from 1) that sets `key`.
fn line_of_key(text: &str, from: usize, key: &str) -> Option<usize> {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start();
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    text.lines().enumerate().skip(from.saturating_sub(1)).find(|(_, line)| sets(line)).map(|(index, _)| index + 1)
}
