//! A terminal's screen as a drawing (SVG), and what such a drawing says.

use testing_support::svg::{element, picture};

/// Size of a cell of the drawing.
const CELL: (f64, f64) = (8.4, 17.0);

/// How a run of characters looks (ECMA-48 section 8.3.117).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    bold: bool,
    dim: bool,
    reversed: bool,
    colour: Option<u8>,
}

impl Look {
    fn obey(&mut self, parameters: &str) {
        let mut parameters = parameters.split(';').map(|parameter| parameter.parse::<u8>().unwrap_or(0));
        while let Some(parameter) = parameters.next() {
            match parameter {
                // One of 256 colours: `38;5;N`.
                38 => self.colour = parameters.nth(1),
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                27 => self.reversed = false,
                colour @ 30..=37 => self.colour = Some(colour - 30),
                39 => self.colour = None,
                _ => {}
            }
        }
    }

    fn ink(self) -> &'static str {
        match (self.reversed, self.colour, self.dim) {
            (true, ..) => "#1b1f27",
            (_, Some(1 | 9), _) => "#ff6b6b",
            (_, Some(3 | 11), _) => "#ffd166",
            (_, Some(6 | 14), _) => "#56c8d8",
            (_, _, true) => "#8b93a3",
            _ => "#d8dee9",
        }
    }
}

/// A screen with escape sequences, of `columns` and `lines`, as a drawing that needs nothing else.
#[must_use]
pub fn svg(screen: &str, (columns, lines): (u16, u16), title: &str) -> String {
    let (cell_width, cell_height) = CELL;
    let (width, height) = (f64::from(columns) * cell_width + 24.0, f64::from(lines) * cell_height + 52.0);
    let size = (format!("{width:.0}"), format!("{height:.0}"));
    let mut drawing = picture(size.0, size.1).set("role", "img").set("aria-label", title);
    drawing.push(element("rect").set("width", "100%").set("height", "100%").set("rx", 8).set("fill", "#1b1f27"));
    let button = |x: u32, colour| element("circle").set("cx", x).set("cy", 16).set("r", 5).set("fill", colour);
    let buttons = [(18, "#ff6b6b"), (36, "#ffd166"), (54, "#66d19e")].map(|(x, colour)| button(x, colour).to_string());
    drawing.push(buttons.concat());
    let font = "DejaVu Sans Mono, Menlo, Consolas, monospace";
    let mut text = element("g").set("font-family", font).set("font-size", 13.5);
    let heading = element("text").set("x", "50%").set("y", 21).set("fill", "#8b93a3");
    text.push(heading.set("text-anchor", "middle").text(title));
    let mut look = Look::default();
    for (number, line) in screen.lines().enumerate() {
        let top = 32.0 + number as f64 * cell_height;
        let mut column = 0;
        let mut pieces = line.split("\x1b[");
        let mut draw = |run: &str, look: Look| {
            let count = run.chars().count();
            let left = 12.0 + column as f64 * cell_width;
            let wide = count as f64 * cell_width;
            column += count;
            let [x, y, length] = [left, top, wide].map(|number| format!("{number:.1}"));
            if look.reversed {
                let ground = element("rect").set("x", &x).set("y", y).set("width", &length);
                text.push(ground.set("height", cell_height).set("fill", "#d8dee9"));
            }
            if run.trim().is_empty() {
                return;
            }
            let word = element("text").set("x", x).set("y", format_args!("{:.1}", top + 13.0));
            let word = word.set("textLength", length).set("lengthAdjust", "spacingAndGlyphs").set("fill", look.ink());
            let word = if look.bold { word.set("font-weight", "bold") } else { word };
            // Blanks that no viewer folds.
            text.push(word.text(run.replace(' ', "\u{a0}")));
        };
        draw(pieces.next().unwrap_or_default(), look);
        for piece in pieces {
            let (parameters, text) = piece.split_once('m').unwrap_or((piece, ""));
            look.obey(parameters);
            draw(text, look);
        }
    }
    drawing.push(text);
    format!("{drawing}\n")
}

/// What a drawing by [`svg`] says, line by line: a blank between two words, no empty line, and no heading.
#[must_use]
pub fn lines(drawing: &str) -> Vec<String> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for word in drawing.split("<text ").skip(1).filter(|word| word.contains("textLength=")) {
        let within = |start, end| Some(word.split_once(start)?.1.split_once(end)?.0);
        let (Some(y), Some(text)) = (within("y=\"", "\""), within(">", "</text>")) else { continue };
        let text = text.replace('\u{a0}', " ").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        let text = text.replace("&apos;", "'").replace("&amp;", "&");
        match lines.last_mut() {
            Some((last, line)) if *last == y => *line += &format!(" {text}"),
            _ => lines.push((y, text)),
        }
    }
    lines.into_iter().map(|(_, line)| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_weights_are_drawn_and_text_is_escaped() {
        let drawing = svg(
            "plain \x1b[1mbold\x1b[0m\x1b[36m<&\x1b[39m\x1b[38;5;6mcyan\x1b[0m\n\x1b[7mchosen\x1b[0m\n",
            (40, 3),
            "t",
        );
        for part in [
            "fill=\"#d8dee9\">plain\u{a0}</text>",
            "fill=\"#d8dee9\" font-weight=\"bold\">bold</text>",
            "fill=\"#56c8d8\">&lt;&amp;</text>",
            "fill=\"#56c8d8\">cyan</text>",
            "fill=\"#1b1f27\">chosen</text>",
        ] {
            assert!(drawing.contains(part), "{part} is not in {drawing}");
        }
    }

    #[test]
    fn a_drawing_says_what_the_screen_said() {
        let screen = "a \x1b[1mbold\x1b[0m <word>\n\n  \x1b[7m\"chosen\" & more\x1b[0m\n";
        assert_eq!(lines(&svg(screen, (40, 4), "the heading")), ["a bold <word>", "\"chosen\" & more"]);
    }
}
