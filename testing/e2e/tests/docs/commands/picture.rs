//! Drawings of what a command shows, as the pages have them: taken here, and old when the program shows something else.
//!
//! Figures, bars and rows come and go. What has to be the same are the headings and the keys; and what the drawing says
//! beside them the screen says too, sooner or later.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use testing_lab::drawing;
use testing_lab::terminal::Terminal;
use testing_support::workspace::{root, target};

use super::page::Picture;

/// How long a screen may take until it says what the drawing says; then it is taken as it is.
const EXPOSURE: Duration = Duration::from_secs(45);

/// Holds what is on a terminal against the drawing. If that is old, leaves one of now in `target/pictures`, and the
/// error says so.
pub(super) fn compare(terminal: &Terminal, command: &str, picture: &Picture) -> Result<(), String> {
    let committed = fs::read_to_string(root().join(&picture.path)).unwrap_or_default();
    let said = drawing::lines(&committed);
    let is_said = |screen: &str| {
        let lines: Vec<String> = screen.lines().map(str::to_owned).collect();
        !said.is_empty() && missing(&said, &lines).is_empty() && headings(&said) == headings(&lines)
    };
    let Err(error) = terminal.wait_for(EXPOSURE, is_said) else { return Ok(()) };
    let text = |error| format!("{error:#}");
    let screen = terminal.coloured_screen().map_err(text)?;
    let taken = target().join("pictures").join(root().join(&picture.path).file_name().unwrap());
    fs::create_dir_all(taken.parent().unwrap()).unwrap();
    fs::write(&taken, drawing::svg(&screen, picture.size, command)).unwrap();
    let lines: Vec<String> = terminal.screen().map_err(text)?.lines().map(str::to_owned).collect();
    let missing = missing(&said, &lines);
    Err(format!("{} is old: take {}; not on the screen: {missing:?}; {error:#}", picture.path, taken.display()))
}

/// Words of letters, in which a figure, a bar or a blank is an end.
fn words(line: &str) -> BTreeSet<&str> {
    line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1).collect()
}

/// What a drawing says and a screen does not.
fn missing(said: &[String], screen: &[String]) -> Vec<String> {
    let shown: BTreeSet<&str> = screen.iter().flat_map(|line| words(line)).collect();
    let all: BTreeSet<&str> = said.iter().flat_map(|line| words(line)).collect();
    all.difference(&shown).map(|word| (*word).to_owned()).collect()
}

/// The lines above a table and those that name keys.
fn headings(lines: &[String]) -> Vec<BTreeSet<&str>> {
    let of_all = lines.iter().map(|line| words(line));
    of_all.filter(|words| words.contains("dst") || words.contains("quit")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_and_go_and_words_do_not() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let said = lines("dst samples▼ last\ndb.example.org 12 2.1 ▁▃\nq quit");
        let now = lines("dst▼ samples last\nmore 3\ndb.example.org 9 0.4 ▇\nq quit");
        assert_eq!((missing(&said, &now), headings(&said)), (Vec::new(), headings(&now)));
        let new = lines("dst samples last worst\ndb 9\nq quit");
        assert_eq!(missing(&said, &new), ["example", "org"]);
        assert_ne!(headings(&said), headings(&new));
    }
}
