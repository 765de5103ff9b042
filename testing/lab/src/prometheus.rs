//! A real Prometheus on a host of the lab, which scrapes what listens on that host's loopback.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Host;
use testing_support::workspace::{capture, output};

/// Where it listens.
const LISTEN: &str = "127.0.0.1:9090";

/// Ends when dropped.
#[derive(Debug)]
pub struct Prometheus<'h> {
    host: &'h Host,
    child: Child,
}

impl<'h> Prometheus<'h> {
    /// Starts one that keeps its data in `folder`, scrapes port `port` as the job `go-metro` once a second, and
    /// evaluates these rules as often.
    ///
    /// # Errors
    ///
    /// The folder cannot be written to, or there is no Prometheus.
    pub fn start(host: &'h Host, folder: &Path, port: u16, rules: Option<&Path>) -> Result<Self> {
        let rules: Vec<_> = rules.iter().map(|rules| rules.display().to_string()).collect();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: {rules:?}\nscrape_configs:\n  \
             - {{job_name: go-metro, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        );
        Self::run(host, folder, &text, host.namespace.command("prometheus"))
    }

    /// Starts one that takes native histograms from these ports.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn with_native_histograms(host: &'h Host, folder: &Path, ports: &[u16]) -> Result<Self> {
        let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - {{job_name: go-metro, static_configs: \
             [{{targets: {targets:?}}}]}}\n"
        );
        let mut command = host.namespace.command("prometheus");
        command.arg("--enable-feature=native-histograms");
        Self::run(host, folder, &text, command)
    }

    fn run(host: &'h Host, folder: &Path, text: &str, mut command: Command) -> Result<Self> {
        let config = folder.join("prometheus.yml");
        fs::write(&config, text)?;
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address={LISTEN}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot run prometheus")?;
        Ok(Self { host, child })
    }

    /// What it answers to an expression now: each series with its labels and its value.
    ///
    /// # Errors
    ///
    /// It does not answer, or the expression cannot be evaluated.
    pub fn instant(&self, expression: &str) -> Result<Vec<Value>> {
        let mut promtool = self.host.namespace.command("promtool");
        promtool.args(["query", "instant", "-o", "json", &format!("http://{LISTEN}"), expression]);
        let said = output(&mut promtool)?;
        if !said.status.success() {
            bail!("{expression}: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(serde_json::from_slice(&said.stdout)?)
    }

    /// The first value of an expression, once it has one that is a number.
    ///
    /// # Errors
    ///
    /// It has none within `limit`.
    pub fn value(&self, expression: &str, limit: Duration) -> Result<f64> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.instant(expression);
            let values = answer.iter().flatten().filter_map(|series| series["value"][1].as_str());
            if let Some(value) = values.filter_map(|text| text.parse::<f64>().ok()).find(|value| !value.is_nan()) {
                return Ok(value);
            }
            if Instant::now() > deadline {
                bail!("{expression} has no value: {answer:?}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What it answers at a path of its HTTP interface.
    ///
    /// # Errors
    ///
    /// It does not answer in JSON.
    pub fn api(&self, path: &str) -> Result<Value> {
        let mut curl = self.host.namespace.command("curl");
        let said = capture(curl.args(["--silent", "--show-error", "--fail", &format!("http://{LISTEN}{path}")]))?;
        Ok(serde_json::from_str(&said)?)
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
