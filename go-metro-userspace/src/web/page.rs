//! The files of the page. They need nothing from elsewhere, and no bundler: browsers load them as they are.

use std::sync::OnceLock;

use bytes::Bytes;

use super::gzip;

/// A file that a browser loads.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    text: &'static str,
    compressed: OnceLock<Bytes>,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const fn file(path: &'static str, content_type: &'static str, text: &'static str) -> File {
    File { path, content_type, text, compressed: OnceLock::new() }
}

/// Each of them.
static FILES: [File; 9] = [
    file("/", HTML, include_str!("page/index.html")),
    file("/page.css", CSS, include_str!("page/page.css")),
    file("/icon.svg", SVG, include_str!("page/icon.svg")),
    file("/main.js", SCRIPT, include_str!("page/main.js")),
    file("/state.js", SCRIPT, include_str!("page/state.js")),
    file("/format.js", SCRIPT, include_str!("page/format.js")),
    file("/table.js", SCRIPT, include_str!("page/table.js")),
    file("/chart.js", SCRIPT, include_str!("page/chart.js")),
    file("/health.js", SCRIPT, include_str!("page/health.js")),
];

/// The file at a path.
pub(super) fn at(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    /// Its bytes, compressed or not.
    pub(super) fn bytes(&self, compressed: bool) -> Bytes {
        if compressed {
            self.compressed.get_or_init(|| gzip(self.text.as_bytes())).clone()
        } else {
            Bytes::from_static(self.text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of all files together.
    const MOST_BYTES: usize = 100 << 10;

    #[test]
    fn the_page_is_small_and_names_only_files_that_there_are() {
        let all: usize = FILES.iter().map(|file| file.text.len()).sum();
        println!("{all} bytes, {} compressed", FILES.iter().map(|file| file.bytes(true).len()).sum::<usize>());
        assert!(all <= MOST_BYTES, "{all} bytes");
        for file in &FILES {
            for (at, _) in file.text.match_indices("src=\"").chain(file.text.match_indices("href=\"")) {
                let path = file.text[at..].split('"').nth(1).unwrap();
                let is_there = path.starts_with('#') || path.starts_with("/api/") || super::at(path).is_some();
                assert!(is_there, "{}: {path}", file.path);
            }
            for line in file.text.lines().filter(|line| line.starts_with("import ")) {
                let path = line.split('"').nth(1).unwrap().trim_start_matches('.');
                assert!(at(path).is_some(), "{}: {line}", file.path);
            }
        }
    }

    #[test]
    fn no_file_asks_anybody_else_or_makes_markup_of_text() {
        for file in &FILES {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for word in [
                "http:",
                "https:",
                "//cdn",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "cookie",
                "localStorage",
                "style=\"",
                "onclick=",
            ] {
                assert!(!text.contains(word), "{}: {word}", file.path);
            }
        }
    }
}
