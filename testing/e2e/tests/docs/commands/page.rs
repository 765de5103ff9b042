//! What stands in the `console` blocks of a page.

/// A block.
#[derive(Debug)]
pub(super) struct Block {
    /// Page and line.
    pub(super) place: String,
    pub(super) scene: String,
    pub(super) steps: Vec<Step>,
}

/// A command, and what the page shows of its output.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) command: String,
    /// What a command of ours ends with, unless it is interrupted.
    pub(super) status: i32,
    pub(super) output: Vec<String>,
    /// What is drawn of its screen.
    pub(super) picture: Option<Picture>,
}

/// A drawing of what a command shows on a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Its path in the repository.
    pub(super) path: String,
    /// Columns and lines of the terminal.
    pub(super) size: (u16, u16),
    /// What is typed first, as tmux names it.
    pub(super) keys: Vec<String>,
}

impl Picture {
    /// `docs/NAME.svg, 120x20, Right Right`; the keys may be missing.
    fn of(text: &str) -> Option<Self> {
        let mut parts = text.split(", ");
        let (path, (columns, lines)) = (parts.next()?.to_owned(), parts.next()?.split_once('x')?);
        let size = (columns.parse().ok()?, lines.parse().ok()?);
        Some(Self {
            path,
            size,
            keys: parts.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        })
    }
}

/// What a comment of this kind says, `<!-- scene: NAME -->`.
fn comment<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    line.strip_prefix("<!-- ")?.strip_prefix(kind)?.strip_prefix(": ")?.strip_suffix(" -->")
}

/// All blocks of a page, in order.
pub(super) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut scene = "daemon";
    let mut status = 0;
    let mut picture = None;
    let mut within = false;
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = comment(line, "scene") {
            (scene, status) =
                name.split_once(", status ").map_or((name, 0), |(name, status)| (name, status.parse().unwrap()));
        } else if let Some(text) = comment(line, "picture") {
            picture = Some(Picture::of(text).unwrap_or_else(|| panic!("{page}:{}: no picture", number + 1)));
        } else if line == "```console" {
            let place = format!("{page}:{}", number + 1);
            blocks.push(Block { place, scene: std::mem::replace(&mut scene, "daemon").to_owned(), steps: Vec::new() });
            within = true;
        } else if line.starts_with("```") {
            within = false;
            status = 0;
        } else if let (true, Some(block)) = (within, blocks.last_mut()) {
            let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
            match (command, block.steps.last_mut()) {
                (None, Some(step)) if goes_on => step.command += line.trim().trim_end_matches('\\').trim_end(),
                (Some(command), _) => {
                    let bare = without_comment(command).trim_end_matches('\\');
                    let (command, picture) = (bare.to_owned(), picture.take());
                    block.steps.push(Step { command, status, picture, ..Step::default() });
                }
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => panic!("{page}:{}: output before any command", number + 1),
            }
            goes_on = (goes_on || command.is_some()) && line.ends_with('\\');
        }
    }
    blocks
}

/// A comment stands behind two blanks.
fn without_comment(command: &str) -> &str {
    command.split_once("  # ").map_or(command, |(command, _)| command).trim_end()
}

/// Why output is not as a page shows it, if so.
pub(super) fn differs(shown: &[String], came: &[String]) -> Option<String> {
    let came: Vec<String> = came.iter().map(|line| wild(line)).collect();
    let mut rest = came.as_slice();
    for line in shown {
        let expected = wild(line);
        if expected.is_empty() || expected == "…" {
            continue;
        }
        let fits = |line: &String| is_like(line, &expected);
        match rest.iter().position(fits) {
            Some(at) => rest = &rest[at + 1..],
            None => {
                return Some(format!(
                    "this does not come (in this place):\n  {expected}\nof:\n  {}",
                    came.join("\n  ")
                ));
            }
        }
    }
    None
}

/// Whether a line is as expected, where `…` stands for anything.
fn is_like(line: &str, expected: &str) -> bool {
    let mut rest = line;
    let mut parts = expected.split('…').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let found = match (is_first, is_last) {
            (true, true) => (rest == part).then_some(rest.len()),
            (true, false) => rest.starts_with(part).then_some(part.len()),
            (false, true) => rest.ends_with(part).then_some(rest.len()),
            (false, false) => rest.find(part).map(|at| at + part.len()),
        };
        let Some(end) = found else { return false };
        rest = &rest[end..];
        is_first = false;
    }
    true
}

/// A line with its figures and spaces made alike.
fn wild(line: &str) -> String {
    let mut text = String::new();
    let characters: Vec<char> = line.trim().chars().collect();
    for (at, c) in characters.iter().enumerate() {
        let is_between = |c: char| ".,:/".contains(c) && characters.get(at + 1).is_some_and(char::is_ascii_digit);
        match c {
            c if c.is_ascii_digit() && !text.ends_with('N') => text.push('N'),
            c if c.is_ascii_digit() => {}
            c if text.ends_with('N') && is_between(*c) => {}
            c if c.is_whitespace() && text.ends_with(' ') => {}
            c if c.is_whitespace() => text.push(' '),
            c => text.push(*c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_output_are_told_apart() {
        let text = "<!-- scene: quiet -->\n```console\n$ a b \\\n    c   # says\nout 1.5 ms\n# d\n```\n";
        let blocks = blocks("p", text);
        assert_eq!((blocks.len(), blocks[0].scene.as_str(), blocks[0].place.as_str()), (1, "quiet", "p:2"));
        assert_eq!(blocks[0].steps[0].command, "a b c   # says");
        assert_eq!((blocks[0].steps[0].output[0].as_str(), blocks[0].steps[1].command.as_str()), ("out 1.5 ms", "d"));
    }

    #[test]
    fn a_picture_is_of_the_next_command() {
        let text = "<!-- scene: far -->\n<!-- picture: docs/a.svg, 80x24, Right q -->\n```console\n$ a\n$ b\n```\n";
        let steps = &blocks("p", text)[0].steps;
        let picture = Picture { path: "docs/a.svg".to_owned(), size: (80, 24), keys: vec!["Right".into(), "q".into()] };
        assert_eq!([&steps[0].picture, &steps[1].picture], [&Some(picture), &None]);
        assert_eq!(Picture::of("docs/a.svg, 80x24").map(|picture| picture.keys), Some(Vec::new()));
        assert_eq!(Picture::of("docs/a.svg"), None);
    }

    #[test]
    fn figures_are_wild_and_words_are_not() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let came = lines("head\n10.77.0.1   25.103 ms\nlast of many words");
        assert_eq!(differs(&lines("10.0.0.9 1.5 ms\n…\nlast of…"), &came), None);
        assert_eq!(differs(&lines("last…many…"), &came), None);
        assert!(differs(&lines("last…few…"), &came).is_some());
        assert!(differs(&lines("10.0.0.9 1.5 s"), &came).is_some());
        assert!(differs(&lines("last of…\nhead"), &came).is_some());
    }
}
