//! Lines within 120 columns, and plain words.

use std::fs;
use std::path::Path;

use testing_support::workspace::root;

use super::{files, has_extension};

/// Also what `rustfmt.toml` says of code; strings and comments it leaves alone.
const COLUMNS: usize = 120;

/// Folders and files that still have longer lines. One that has none any more goes from here.
const WIDE: &[&str] = &[];

/// No text has these. In halves, so that this file has none either.
const WORDS: [[&str; 2]; 5] =
    [["ane", "w"], ["who", "ever"], ["tells", " of"], ["can be", " had"], ["turned", " round"]];

/// Folders and files that still have some. One that has none any more goes from here.
const UNPLAIN: &[&str] = &[];

/// Where the words are explained.
const GLOSSARY: &str = "docs/glossary.md";

#[test]
fn no_line_of_rust_is_wider_than_the_page() {
    let rust = |path: &Path| has_extension(path, "rs");
    check(rust, WIDE, "has more than 120 columns", |line| line.chars().count() > COLUMNS);
}

#[test]
fn texts_are_in_plain_words() {
    let text = |path: &Path| path != Path::new(GLOSSARY) && !["gz", "lock"].iter().any(|e| has_extension(path, e));
    let words = WORDS.map(|halves| halves.concat());
    check(text, UNPLAIN, "has a word that no text has", |line| {
        let line = line.to_lowercase();
        words.iter().any(|word| has_word(&line, word))
    });
}

/// Fails for each line of those files that is `bad`, unless it is in one of the places that are `excepted`; and for
/// each of these that has no bad line.
fn check(which: impl Fn(&Path) -> bool, excepted: &[&str], what: &str, bad: impl Fn(&str) -> bool) {
    let mut problems = Vec::new();
    let mut needed = vec![false; excepted.len()];
    for path in files().into_iter().filter(|path| which(path)) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, _) in text.lines().enumerate().filter(|(_, line)| bad(line)) {
            match excepted.iter().position(|place| path.starts_with(place)) {
                Some(place) => needed[place] = true,
                None => problems.push(format!("{}:{}: {what}", path.display(), number + 1)),
            }
        }
    }
    for (place, _) in excepted.iter().zip(needed).filter(|(_, needed)| !needed) {
        problems.push(format!("{place}: no line {what} any more: take it from the list in {}", file!()));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether a text has a word, with no letter, digit or underscore on either side.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
}

#[test]
fn a_word_is_found_as_a_word_alone() {
    assert!(has_word("made, and new.", "new"));
    assert!(!has_word("renewed newer new_ and news", "new"));
}
