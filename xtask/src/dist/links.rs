//! Links of pages that are shipped without all that they lead to.

use std::path::{Component, Path, PathBuf};

use testing_support::workspace::root;

/// A page of the repository with those of its links that lead to files which are not shipped beside it leading to the
/// repository's home instead. `page` is its path in the repository; `ships` says of a path there whether it is.
pub(crate) fn outward(text: &str, page: &str, ships: impl Fn(&Path) -> bool) -> String {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut parts = text.split("](");
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rewritten.push_str("](");
        let target = part.split([')', '#', ' ']).next().unwrap_or_default();
        let path = normal(&folder.join(target));
        if !target.is_empty() && !target.contains(':') && root().join(&path).exists() && !ships(&path) {
            let kind = if path.extension().is_some_and(|name| name == "svg") { "raw" } else { "blob" };
            rewritten.push_str(&format!("{}/{kind}/HEAD/{}", env!("CARGO_PKG_REPOSITORY"), path.display()));
            rewritten.push_str(&part[target.len()..]);
        } else {
            rewritten.push_str(part);
        }
    }
    rewritten
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_what_is_not_shipped_lead_to_the_repository() {
        let page = "[a](../SECURITY.md#x) [b](status.md) [c](https://x.test/y) [d](#here) [e](../packaging) call(x](y)";
        let home = env!("CARGO_PKG_REPOSITORY");
        assert_eq!(
            outward(page, "docs/README.md", |path| path.starts_with("docs")),
            format!(
                "[a]({home}/blob/HEAD/SECURITY.md#x) [b](status.md) [c](https://x.test/y) [d](#here) \
                 [e]({home}/blob/HEAD/packaging) call(x](y)"
            )
        );
        assert_eq!(
            outward("![a](docs/top.svg)", "README.md", |_| false),
            format!("![a]({home}/raw/HEAD/docs/top.svg)")
        );
    }
}
