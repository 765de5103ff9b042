//! What an end does between two messages: it walks through a working set of data and of code, so that both are in its
//! caches and what was there before is not.

use std::hint::black_box;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A line of data: where the next is, and how often this one was visited.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line {
    next: u32,
    visits: u32,
    _rest: [u32; 14],
}

/// A working set.
#[derive(Default)]
pub(super) struct Work {
    kib: u32,
    data: Vec<Line>,
    code: Vec<Step>,
    /// What the functions computed.
    state: u64,
}

impl Work {
    /// Visits each line of data once, writing to it, and runs each function once; in an order at random, which no
    /// prefetcher foresees.
    pub(super) fn through(&mut self, kib: u32) {
        if kib != self.kib {
            self.become_of(kib);
        }
        let mut at = 0;
        for _ in 0..self.data.len() {
            let line = &mut self.data[at];
            line.visits = line.visits.wrapping_add(1);
            at = line.next as usize;
        }
        for step in &self.code {
            self.state = step(self.state);
        }
        black_box((at, self.state));
    }

    fn become_of(&mut self, kib: u32) {
        let mut random = fastrand::Rng::with_seed(kib.into());
        let [lines, functions] = sizes(kib);
        let mut order: Vec<u32> = (0..lines as u32).collect();
        random.shuffle(&mut order);
        self.data = vec![Line::default(); lines];
        for (at, line) in order.iter().enumerate() {
            self.data[*line as usize].next = order[(at + 1) % lines];
        }
        self.code = STEPS.as_flattened().to_vec();
        random.shuffle(&mut self.code);
        self.code.truncate(functions);
        self.kib = kib;
    }
}

/// Lines of data, and functions: half and half, until all functions are in use.
fn sizes(kib: u32) -> [usize; 2] {
    let bytes = kib as usize * 1024;
    let functions = (bytes / 2 / bytes_of_a_step()).min(STEPS.as_flattened().len());
    [(bytes - functions * bytes_of_a_step()) / LINE, functions]
}

/// KiB of data and of code in a working set.
pub(crate) fn working_set(kib: u32) -> [usize; 2] {
    let [lines, functions] = sizes(kib);
    [lines * LINE / 1024, functions * bytes_of_a_step() / 1024]
}

/// What a function takes in this build, from the addresses of all.
fn bytes_of_a_step() -> usize {
    let addresses = || STEPS.as_flattened().iter().map(|step| *step as usize);
    let span = addresses().max().unwrap_or_default() - addresses().min().unwrap_or_default();
    span / (STEPS.as_flattened().len() - 1)
}

type Step = fn(u64) -> u64;

/// A function of its own for each number: xorshift (Marsaglia 2003), over and over, to some 256 bytes of code.
#[inline(never)]
fn step<const NUMBER: u64>(mut x: u64) -> u64 {
    x ^= NUMBER << 20;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    x ^= NUMBER << 30;
    x ^= x << 5;
    x ^= x >> 27;
    x ^= x << 8;
    x ^= NUMBER << 40;
    x ^= x << 14;
    x ^= x >> 29;
    x ^= x << 11;
    x
}

macro_rules! steps {
    ($($row:literal)*) => { [$(steps!(@row $row: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)),*] };
    (@row $row:literal: $($column:literal)*) => { [$(step::<{ $row * 16 + $column }>),*] };
}

/// 1024 of them.
static STEPS: [[Step; 16]; 64] = steps! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_visited_once_and_every_function_is_another() {
        let mut work = Work::default();
        work.through(512);
        work.through(512);
        assert!(work.data.iter().all(|line| line.visits == 2));
        let mut addresses: Vec<usize> = STEPS.as_flattened().iter().map(|step| *step as usize).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 1024);
        let [data, code] = working_set(512);
        assert!(data.abs_diff(256) <= 64 && data + code >= 510, "{data} KiB of data, {code} KiB of code");
    }
}
