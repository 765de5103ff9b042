//! The agent from outside, once a second: memory, descriptors, flows.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use testing_lab::agent::Agent;

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) at: Duration,
    /// Resident, in bytes.
    pub(super) memory: u64,
    pub(super) descriptors: usize,
    pub(super) flows: u64,
}

/// All looks.
pub(super) struct Watch<'a> {
    agent: &'a Agent,
    start: Instant,
    pub(super) points: Vec<Point>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(agent: &'a Agent, start: Instant) -> Self {
        Self { agent, start, points: Vec::new() }
    }

    /// Looks.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) fn look(&mut self) -> Result<()> {
        let process = format!("/proc/{}", self.agent.pid());
        let status = fs::read_to_string(format!("{process}/status")).context("it is gone")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it is gone")?;
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
        self.points.push(Point {
            at: self.start.elapsed(),
            memory: kib << 10,
            descriptors: fs::read_dir(format!("{process}/fd")).context("it is gone")?.count(),
            flows: last_health(self.agent).and_then(|health| health["flows"].as_u64()).unwrap_or_default(),
        });
        Ok(())
    }

    /// The looks of one fifth of the time, counted from zero.
    fn fifth(&self, number: usize) -> &[Point] {
        let part = self.points.len() / 5;
        self.points.get(number * part..(number + 1) * part).unwrap_or_default()
    }

    /// The middle memory of the second and of the last fifth of the time.
    pub(super) fn memory(&self) -> [u64; 2] {
        [1, 4].map(|number| {
            let mut memory: Vec<u64> = self.fifth(number).iter().map(|point| point.memory).collect();
            memory.sort_unstable();
            memory.get(memory.len() / 2).copied().unwrap_or_default()
        })
    }

    /// The median of the descriptors in the second and in the last fifth of the time: an interface has some, and one
    /// may be away or a crowd be there for a few seconds of either.
    pub(super) fn descriptors(&self) -> [usize; 2] {
        [1, 4].map(|number| {
            let mut descriptors: Vec<usize> = self.fifth(number).iter().map(|point| point.descriptors).collect();
            descriptors.sort_unstable();
            descriptors.get(descriptors.len() / 2).copied().unwrap_or_default()
        })
    }

    pub(super) fn most_flows(&self) -> u64 {
        self.points.iter().map(|point| point.flows).max().unwrap_or_default()
    }
}

/// Its last report of its health.
pub(super) fn last_health(agent: &Agent) -> Option<Value> {
    let line = agent.last_output(|line| line.contains("\"health\""))?;
    let mut line: Value = serde_json::from_str(&line).ok()?;
    Some(line["health"].take())
}
