//! Elements of a picture (SVG 1.1, an application of XML 1.0): their form, and what has to be escaped.
//!
//! Standard library only: the tasks and the tests, which draw pictures too and do not build the daemon, compile this
//! file themselves.

use std::fmt::{self, Display, Formatter, Write as _};

/// An element: its attributes in the order in which they were set, then what is inside.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: String,
    inside: Option<String>,
}

/// An element without attributes.
#[must_use]
pub fn element(name: &'static str) -> Element {
    Element { name, attributes: String::new(), inside: None }
}

/// The root of a picture of this size, in the units of its elements.
#[must_use]
pub fn picture(width: impl Display, height: impl Display) -> Element {
    element("svg").set("xmlns", "http://www.w3.org/2000/svg").set("viewBox", format_args!("0 0 {width} {height}"))
}

/// A line along `path` without anything inside it.
#[must_use]
pub fn line(path: impl Display) -> Element {
    element("path").set("d", path)
}

/// Points as a polyline has them.
#[must_use]
pub fn points(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

impl Element {
    /// Sets an attribute.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.attributes, " {name}=\"{}\"", escaped(&value.to_string()));
        self
    }

    /// Puts text inside.
    #[must_use]
    pub fn text(mut self, text: impl Display) -> Self {
        self.inside.get_or_insert_default().push_str(&escaped(&text.to_string()));
        self
    }

    /// Puts what is markup already inside, such as other elements.
    #[must_use]
    pub fn inside(mut self, markup: impl Display) -> Self {
        let _ = write!(self.inside.get_or_insert_default(), "{markup}");
        self
    }

    /// Puts it inside on a line of its own.
    pub fn push(&mut self, markup: impl Display) {
        let _ = writeln!(self.inside.get_or_insert_with(|| "\n".to_owned()), "{markup}");
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, attributes, inside } = self;
        match inside {
            Some(inside) => write!(f, "<{name}{attributes}>{inside}</{name}>"),
            None => write!(f, "<{name}{attributes}/>"),
        }
    }
}

/// Text with what XML would take for markup escaped (section 2.4).
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped_and_markup_is_not() {
        let mut picture = picture(10, 2.5).set("aria-label", "\"a\" < b");
        picture.push(element("g").inside(element("text").set("x", 1).text("1 > 0 & 2")));
        assert_eq!(
            picture.to_string(),
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 10 2.5\" aria-label=\"&quot;a&quot; &lt; b\">\n\
             <g><text x=\"1\">1 &gt; 0 &amp; 2</text></g>\n</svg>"
        );
        assert_eq!(points([(1.0, 2.0), (3.26, 4.0)]), "1.0,2.0 3.3,4.0");
    }
}
