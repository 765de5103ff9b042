//! What is wrong with a configuration, and where: file, line, key, the line itself with the place marked, and what to
//! do.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

use super::credentials::hidden;
use super::place::{self, Part, Place, Spot};
use super::yaml;
use crate::terminal::printable;

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
    #[error("{}", listed(path, faults))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that could be found, in the order of their lines; at least one.
        faults: Vec<Fault>,
    },
    /// Something on the command line or in the environment is wrong.
    #[error("{0}")]
    CommandLine(String),
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, counted from 1.
    pub line: usize,
    /// Key, fault and remedy.
    pub what: String,
    /// The line itself, without blanks at its end.
    pub source: String,
    /// The characters of the line, counted from 0, that are wrong; empty if that is nothing that stands there.
    pub marked: Range<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)?;
        if !self.source.is_empty() {
            write!(f, "\n  {} | {}", self.line, self.source)?;
        }
        if !self.marked.is_empty() {
            let gutter = self.line.to_string().len();
            write!(f, "\n  {:gutter$} | {}", "", self.carets())?;
        }
        Ok(())
    }
}

impl Fault {
    /// Carets that stand beneath what is wrong, as a terminal shows the line.
    fn carets(&self) -> String {
        let mut carets = String::new();
        for (index, char) in self.source.chars().enumerate().take(self.marked.end) {
            let shown = if index < self.marked.start { ' ' } else { '^' };
            match char {
                '\t' => carets.push('\t'),
                _ => carets.extend(std::iter::repeat_n(shown, char.width().unwrap_or(0))),
            }
        }
        carets
    }
}

fn listed(path: &Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}:{fault}", path.display())).collect();
    lines.join("\n")
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => "; it is a symbolic link to a file that does not exist",
            io::ErrorKind::NotFound => "; write one, or name another with --config",
            io::ErrorKind::PermissionDenied => "; run as a user who may read it",
            io::ErrorKind::InvalidData => "; it must be UTF-8 text",
            _ => "",
        };
        Self::Unreadable { path: path.to_owned(), what: format!("cannot read the configuration: {error}{hint}") }
    }

    /// What is wrong outside the file.
    pub(super) fn elsewhere(what: &str) -> Self {
        Self::CommandLine(quotable(what))
    }

    /// What is no YAML.
    pub(super) fn from_yaml(path: &Path, text: &str, error: &serde_yaml::Error) -> Self {
        let (spot, what) = yaml::fault(text, error);
        Self::Wrong { path: path.to_owned(), faults: vec![Fault::new(text, spot, &what)] }
    }

    /// What is wrong, each in a line of its own: file, line, key and fault, without the file's text.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Wrong { path, faults } => {
                faults.iter().map(|fault| format!("{}:{}: {}", path.display(), fault.line, fault.what)).collect()
            }
            other => vec![other.to_string()],
        }
    }
}

impl Fault {
    fn new(text: &str, Spot { line, column }: Spot, what: &str) -> Self {
        let written = text.lines().nth(line.saturating_sub(1)).unwrap_or("").trim_end();
        let source = hidden(written);
        let marked = column.map_or(0..0, |(start, part)| {
            // What is hidden before it moves it.
            let before: String = written.chars().take(start).collect();
            place::extent(&source, hidden(&before).chars().count(), part)
        });
        Self { line, what: quotable(what), source, marked }
    }
}

/// A message with what it quotes in one line, and without credentials. Control characters are escaped first: a line
/// break in a value would hide from [`hidden`] what is in front of it.
pub(super) fn quotable(what: &str) -> String {
    hidden(&printable(what))
}

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Faults(Vec<Noted>);

/// A fault, with the place where it is shown.
struct Noted {
    place: Place,
    part: Part,
    subject: Place,
    what: String,
}

impl Faults {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What is wrong first of all.
    pub(super) fn first(&self) -> Option<&str> {
        self.0.first().map(|noted| noted.what.as_str())
    }

    /// Each fault, with what is wrong.
    pub(super) fn described(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|Noted { subject, what, .. }| match subject.to_string() {
            subject if subject.is_empty() => quotable(what),
            subject => quotable(&format!("{subject}: {what}")),
        })
    }

    /// Notes what is wrong with what stands at a place.
    pub(super) fn add(&mut self, place: &Place, what: &str) {
        self.note(place, Part::Value, place, what);
    }

    /// Notes what is wrong with `subject`, and shows it at the key that is `place`.
    pub(super) fn add_at(&mut self, place: &Place, subject: &Place, what: &str) {
        self.note(place, Part::Key, subject, what);
    }

    fn note(&mut self, place: &Place, part: Part, subject: &Place, what: &str) {
        self.0.push(Noted { place: place.clone(), part, subject: subject.clone(), what: what.to_owned() });
    }

    /// All of it as an error, if there is any, in the order of the lines of the file's text.
    pub(super) fn into_result(self, path: &Path, text: &str) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let shown = |Noted { place, part, subject, what }| {
            let subject = subject.to_string();
            let separator = if subject.is_empty() { "" } else { ": " };
            Fault::new(text, place.spot(text, part), &format!("{subject}{separator}{what}"))
        };
        let mut faults: Vec<Fault> = self.0.into_iter().map(shown).collect();
        faults.sort_by_key(|fault| fault.line);
        Err(ConfigError::Wrong { path: path.to_owned(), faults })
    }
}
