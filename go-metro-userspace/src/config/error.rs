//! What is wrong with a configuration, and where: file, line, key, the line itself with the place marked, and what to do.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

use super::mark::{self, Part};
use super::place::{Place, Spot};
use super::schema::Lazy;
use super::yaml;

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

    /// What is no YAML.
    pub(super) fn from_yaml(path: &Path, text: &str, error: &serde_yaml::Error) -> Self {
        let (spot, what) = yaml::fault(text, error);
        Self::Wrong { path: path.to_owned(), faults: vec![Fault::new(text, spot, what)] }
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
    fn new(text: &str, Spot { line, column }: Spot, what: String) -> Self {
        let source = text.lines().nth(line.saturating_sub(1)).unwrap_or("").trim_end().to_owned();
        let marked = column.map_or(0..0, |(start, part)| mark::extent(&source, start, part));
        Self { line, what, source, marked }
    }
}

/// What was found wrong so far in a file's text.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: Vec<Fault>,
    /// The keys of the section that was read last, for its schema.
    asked: Vec<(&'static str, Lazy)>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), asked: Vec::new() }
    }

    /// Notes which keys a section has.
    pub(super) fn note_asked(&mut self, asked: Vec<(&'static str, Lazy)>) {
        self.asked = asked;
    }

    /// The keys of the section that was read last.
    pub(super) fn take_asked(&mut self) -> Vec<(&'static str, Lazy)> {
        std::mem::take(&mut self.asked)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Notes what is wrong with what stands at a place.
    pub(super) fn add(&mut self, place: &Place, what: &str) {
        self.note(place.spot(self.text, Part::Value), place, what);
    }

    /// Notes what is wrong with `subject`, and shows it at the key that is `place`.
    pub(super) fn add_at(&mut self, place: &Place, subject: &Place, what: &str) {
        self.note(place.spot(self.text, Part::Key), subject, what);
    }

    fn note(&mut self, spot: Spot, subject: &Place, what: &str) {
        let subject = subject.to_string();
        let separator = if subject.is_empty() { "" } else { ": " };
        self.found.push(Fault::new(self.text, spot, format!("{subject}{separator}{what}")));
    }

    /// All of it as an error, if there is any.
    pub(super) fn into_result(mut self, path: &Path) -> Result<(), ConfigError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|fault| fault.line);
        Err(ConfigError::Wrong { path: path.to_owned(), faults: self.found })
    }
}
