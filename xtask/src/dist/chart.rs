//! The Helm chart, and the manifest without Helm, which is the chart with its default values.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, path};

use anyhow::{Result, bail};

use super::{archive, version};
use testing_support::setup;
use testing_support::workspace::{capture, root};

const HEADING: &str = "\
# go-metro on every node, for those without Helm: the chart in packaging/helm/go-metro with its default values.
# Made by `cargo xtask manifest`. The image is yours to build and push (packaging/Containerfile): put its name in place.
---
apiVersion: v1
kind: Namespace
metadata:
  name: go-metro
  labels:
    # `hostNetwork` needs it.
    pod-security.kubernetes.io/enforce: privileged
";

/// Where the chart is.
#[must_use]
pub fn directory() -> PathBuf {
    root().join("packaging/helm/go-metro")
}

/// Where the manifest is.
#[must_use]
pub fn manifest() -> PathBuf {
    root().join("packaging/kubernetes/daemonset.yaml")
}

/// `cargo xtask manifest`: writes the manifest from the chart.
///
/// # Errors
///
/// As [`render`].
pub fn main() -> Result<()> {
    fs::write(manifest(), rendered_manifest()?)?;
    Ok(())
}

/// What the manifest must be.
///
/// # Errors
///
/// As [`render`].
pub fn rendered_manifest() -> Result<String> {
    // What Helm alone needs.
    let lines = render(&[])?;
    let kept =
        lines.lines().filter(|line| !line.contains("app.kubernetes.io/managed-by") && !line.contains("helm.sh/chart"));
    Ok(kept.fold(HEADING.to_owned(), |text, line| text + line + "\n"))
}

/// The chart's manifests with these values (`key=value`) set.
///
/// # Errors
///
/// Helm refuses the chart or a value.
pub fn render(values: &[&str]) -> Result<String> {
    let mut helm = helm()?;
    helm.args(["template", "go-metro"]).arg(directory()).args(["--namespace", "go-metro"]);
    for value in values {
        helm.args(["--set", value]);
    }
    capture(&mut helm)
}

/// Helm, which asks no cluster.
///
/// # Errors
///
/// It cannot be installed.
pub fn helm() -> Result<Command> {
    let mut helm = Command::new(setup::for_helm()?);
    helm.current_dir(root());
    Ok(helm)
}

/// Packs the chart, with this `image.repository` in place of its own; where it then is.
///
/// # Errors
///
/// Helm refuses it, or its version is not the program's.
pub fn pack(out: &path::Path, repository: Option<&str>) -> Result<PathBuf> {
    capture(helm()?.arg("package").arg(directory()).arg("--destination").arg(out))?;
    let packed = out.join(format!("go-metro-{}.tgz", version()));
    if !packed.exists() {
        bail!("the version in {} is not Cargo.toml's {}", directory().join("Chart.yaml").display(), version());
    }
    // Helm dates the files now.
    let tree = tempfile::tempdir()?;
    capture(Command::new("tar").arg("-xzf").arg(&packed).arg("-C").arg(tree.path()))?;
    if let Some(repository) = repository {
        let values = tree.path().join("go-metro/values.yaml");
        fs::write(&values, with_repository(&fs::read_to_string(&values)?, repository)?)?;
    }
    archive::pack(&tree.path().join("go-metro"), &packed)?;
    Ok(packed)
}

/// As `values.yaml` has it: for an image that everybody builds.
const OWN_REPOSITORY: &str = "  # Build and push your own: packaging/Containerfile.\n  repository: go-metro\n";

/// The chart's values with another image.
fn with_repository(values: &str, repository: &str) -> Result<String> {
    if !values.contains(OWN_REPOSITORY) {
        bail!("values.yaml does not have {OWN_REPOSITORY:?}");
    }
    Ok(values.replace(OWN_REPOSITORY, &format!("  repository: {repository}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_chart_may_name_the_image_that_was_pushed() {
        let values = fs::read_to_string(directory().join("values.yaml")).unwrap();
        let packed = with_repository(&values, "ghcr.io/an/image").unwrap();
        assert!(packed.contains("image:\n  repository: ghcr.io/an/image\n  # Defaults to"), "{packed}");
        assert!(with_repository(&packed, "ghcr.io/an/image").is_err());
    }
}
