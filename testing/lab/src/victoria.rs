//! A real VictoriaMetrics on a host of the lab, to which others push.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Host;
use testing_support::setup;
use testing_support::workspace::capture;

/// Where it listens.
const LISTEN: &str = "127.0.0.1:8428";
/// What OTLP's `/v1/metrics` is below.
pub const OTLP: &str = "http://127.0.0.1:8428/opentelemetry";

/// Ends when dropped.
#[derive(Debug)]
pub struct VictoriaMetrics<'h> {
    host: &'h Host,
    child: Child,
}

impl<'h> VictoriaMetrics<'h> {
    /// Starts one that keeps its data and its log in `folder`, and gives what comes by OTLP Prometheus's names.
    ///
    /// # Errors
    ///
    /// The folder cannot be written to, there is no VictoriaMetrics, or it does not answer.
    pub fn start(host: &'h Host, folder: &Path) -> Result<Self> {
        let program = setup::otlp_receiver().context("no VictoriaMetrics; `cargo xtask setup` unpacks it")?;
        let mut command = host.namespace.command(program);
        command.arg(format!("-storageDataPath={}", folder.join("victoria").display()));
        command.arg(format!("-httpListenAddr={LISTEN}"));
        command.args([
            "-opentelemetry.usePrometheusNaming",
            "-search.latencyOffset=0",
            "-inmemoryDataFlushInterval=1s",
        ]);
        let log = File::create(folder.join("victoria.log"))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn().context("cannot run victoria-metrics")?;
        let victoria = Self { host, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = victoria.instant("1") {
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(victoria)
    }

    /// What it answers to an expression now: each series with its labels and its value.
    ///
    /// # Errors
    ///
    /// It does not answer, or the expression cannot be evaluated.
    pub fn instant(&self, expression: &str) -> Result<Vec<Value>> {
        let mut curl: Command = self.host.namespace.command("curl");
        curl.args(["--silent", "--show-error", "--get", "--data-urlencode", &format!("query={expression}")]);
        // What was asked for a moment ago is not what there is now.
        curl.args(["--data-urlencode", "nocache=1", &format!("http://{LISTEN}/api/v1/query")]);
        let said: Value = serde_json::from_str(&capture(&mut curl)?)?;
        match said["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => bail!("{expression}: {said}"),
        }
    }

    /// The first value of an expression.
    ///
    /// # Errors
    ///
    /// It has none now.
    pub fn value(&self, expression: &str) -> Result<f64> {
        let answer = self.instant(expression)?;
        let value = answer.iter().find_map(|series| series["value"][1].as_str()?.parse::<f64>().ok());
        value.with_context(|| format!("{expression} has no value: {answer:?}"))
    }
}

impl Drop for VictoriaMetrics<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
