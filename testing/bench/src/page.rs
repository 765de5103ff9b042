//! `docs/performance.md`: what stands between the markers is written here, all else by hand.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::Table;
use testing_support::workspace::root;

const PAGE: &str = "docs/performance.md";

/// Puts each table where its marker is.
pub(super) fn write(tables: &[Table]) -> Result<()> {
    let path = root().join(PAGE);
    let mut page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    for table in tables {
        page = replaced(&page, table.name(), &format!("{table}\n{}", measured_on()))?;
    }
    fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"))
}

/// The page with other text between a marker's two lines.
fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench: {name} -->\n"), format!("<!-- end: {name} -->"));
    let Some((before, rest)) = page.split_once(&begin) else {
        bail!("{PAGE} has no line `{}`; add it and `{end}` where the table is to stand", begin.trim());
    };
    let Some((_, after)) = rest.split_once(&end) else { bail!("{PAGE} has no line `{end}`") };
    Ok(format!("{before}{begin}{text}\n{end}{after}"))
}

fn measured_on() -> String {
    format!("<sub>{}</sub>", machine())
}

/// Processor and kernel.
pub(super) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = nix::sys::utsname::uname();
    let kernel = kernel.as_ref().map_or_else(|_| "?".into(), |names| names.release().to_string_lossy());
    format!("{model}, {cores} cores, Linux {kernel}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- bench: x -->\nold\n<!-- end: x -->\nb\n<!-- bench: y -->\n<!-- end: y -->\n";
        let expected = "a\n<!-- bench: x -->\nnew\n<!-- end: x -->\nb\n<!-- bench: y -->\n<!-- end: y -->\n";
        assert_eq!(replaced(page, "x", "new").unwrap(), expected);
        assert_eq!(replaced(expected, "x", "new").unwrap(), expected);
        assert!(replaced(page, "z", "new").unwrap_err().to_string().contains("bench: z"));
    }
}
