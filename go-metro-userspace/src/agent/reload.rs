//! SIGHUP: over to another configuration, without a gap for what stays the same.

use std::path::Path;

use super::directory::Directory;
use super::settings::{engine_config, host_ends, source_settings, summary_limits};
use super::{Agent, AgentError};
use crate::capture::Source;
use crate::config::Config;

impl Agent {
    /// Reads the configuration again. A broken one changes nothing.
    pub(super) async fn reload(&mut self) -> bool {
        let Some(path) = &self.options.config_path else {
            tracing::warn!("SIGHUP: there is no configuration file to read again");
            return false;
        };
        let path = path.clone();
        self.service.reloading();
        let done = self.read_again(&path).await;
        self.memory.refused = done.as_ref().err().cloned();
        let said = match &done {
            Ok(()) => {
                self.happened.reloads += 1;
                tracing::info!("SIGHUP: configuration read again");
                "configuration read again".to_owned()
            }
            Err(why) => {
                self.happened.reloads_refused += 1;
                tracing::error!("SIGHUP: the configuration stays as it was: {why}");
                format!("the configuration stays as it was: {why}")
            }
        };
        self.service.ready(&said);
        done.is_ok()
    }

    async fn read_again(&mut self, path: &Path) -> Result<(), String> {
        let environment = |name: &str| std::env::var(name).ok();
        let config = Config::load(path, &environment).map_err(|error| error.to_string())?;
        self.follow(self.options.overrides.apply(config)).await.map_err(|error| error.to_string())
    }

    /// Goes over to another configuration, opening the source anew only if it must be.
    async fn follow(&mut self, config: Config) -> Result<(), AgentError> {
        let mut directory = Directory::new(&config);
        directory.adopt(&self.directory);
        directory.refresh_hosts().await;
        directory.check()?;
        let old = &self.options.config;
        let same_source = (config.backend, config.ring_bytes, config.snaplen, &config.filter, config.sides)
            == (old.backend, old.ring_bytes, old.snaplen, &old.filter, old.sides)
            && config.ingress_hook == old.ingress_hook
            && config.workers == old.workers
            && host_ends(&config) == host_ends(old);
        if !same_source {
            let source = Source::open(config.backend, &source_settings(&config, &directory))?;
            self.worker.replace(source).await?;
        }
        self.worker.bounds(engine_config(&config), summary_limits(&config));
        self.outputs.follow(old, &config, &self.asks.0)?;
        let moved = config.status_socket != old.status_socket;
        self.directory = directory;
        self.options.config = config;
        if moved {
            self.status_socket = None;
            self.status_socket = self.open_status_socket().await;
        }
        self.worker.watch(self.directory.watch_list());
        Ok(())
    }
}
