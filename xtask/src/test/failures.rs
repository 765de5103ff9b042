//! What failed and why, for the last lines of a run: a log that is cut in the middle still tells both.

use std::mem::take;

/// How many lines all failures together may take, however many there are.
const LINES: usize = 40;
/// How long a line may be.
const COLUMNS: usize = 240;
/// A panic's first line.
const PANIC: &str = "thread '";

/// Reads what test programs print, line by line, and keeps the failures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// Names with what each printed.
    failed: Vec<(String, Vec<String>)>,
    /// The test whose output is being read.
    section: Option<(String, Vec<String>)>,
    /// A program has begun and has given no result yet; its last finished or started test.
    running: Option<String>,
}

impl Failures {
    /// Adds a failure with what it printed.
    pub(super) fn add(&mut self, name: String, printed: &str) {
        self.failed.push((name, printed.lines().map(str::to_owned).collect()));
    }

    /// Adds those of another run that has ended.
    pub(super) fn extend(&mut self, other: Self) {
        self.failed.extend(other.failed);
    }

    /// Takes the next line of a test runner's output.
    pub(super) fn read(&mut self, line: &str) {
        if is_start(line) {
            self.end();
            self.running = Some(String::new());
        } else if line.starts_with("test result: ") {
            self.running = None;
            self.failed.extend(take(&mut self.section));
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.failed.extend(take(&mut self.section));
            self.section = Some((name.to_owned(), Vec::new()));
        } else if line == "failures:" {
            // The list of their names, which follows what they printed.
            self.failed.extend(take(&mut self.section));
        } else if let Some((_, printed)) = &mut self.section {
            printed.push(line.to_owned());
        } else if let (Some(last), Some(test)) = (&mut self.running, line.strip_prefix("test ")) {
            test.split(" ... ").next().unwrap_or(test).clone_into(last);
        }
    }

    /// The output has ended: a program without a result was killed or has called `exit`. How many failures that adds.
    pub(super) fn end(&mut self) -> u64 {
        self.failed.extend(take(&mut self.section));
        let Some(last) = take(&mut self.running) else { return 0 };
        let at = if last.is_empty() { String::new() } else { format!("; the last test that it named is {last}") };
        self.add("a test program".to_owned(), &format!("ended before its result{at}"));
        1
    }

    /// Prints each failure with the last lines of its panic.
    pub(super) fn print(&self) {
        for line in self.report() {
            println!("{line}");
        }
    }

    fn report(&self) -> Vec<String> {
        if self.failed.is_empty() {
            return Vec::new();
        }
        let each = (LINES / self.failed.len()).saturating_sub(1);
        let mut report = vec![String::new(), "failed tests:".to_owned()];
        for (name, printed) in &self.failed {
            report.push(format!("  {name}"));
            report.extend(essence(printed, each).iter().map(|line| format!("      {}", cut(line))));
        }
        report
    }
}

/// `running 3 tests`
fn is_start(line: &str) -> bool {
    let number =
        line.strip_prefix("running ").and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// At most `room` lines: where it panicked first with the message's first line, and the last lines; no backtraces.
fn essence(printed: &[String], room: usize) -> Vec<&str> {
    let is_panic = |line: &str| line.starts_with(PANIC) && line.contains(" panicked at ");
    // A later panic is often that of a thread that waited for this one.
    let first = printed.iter().position(|line| is_panic(line)).unwrap_or(0);
    let mut in_trace = false;
    let lines: Vec<&str> = printed[first..]
        .iter()
        .map(|line| line.trim_end())
        .filter(|line| {
            in_trace = *line == "stack backtrace:" || (in_trace && !is_panic(line));
            !in_trace && !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE")
        })
        .collect();
    if lines.len() <= room {
        return lines;
    }
    let head = room.min(2);
    // One line says that something is left out.
    let tail = room.saturating_sub(head + 1);
    let mut short = lines[..head].to_vec();
    if tail > 0 {
        short.push("[...]");
        short.extend(&lines[lines.len() - tail..]);
    }
    short
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(COLUMNS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test sinks::one ... ok
test sinks::two ... FAILED
test sinks::three ... FAILED

failures:

---- sinks::two stdout ----
said before

thread 'sinks::two' (4711) panicked at testing/e2e/tests/e2e/sinks.rs:10:5:
no report of 10.0.0.1 came; the daemon said:
line 1
line 2
line 3
line 4
line 5
stack backtrace:
   0: __rustc::rust_begin_unwind

thread 'sinks::two' (4711) panicked at testing/e2e/tests/e2e/sinks.rs:12:5:
a thread panicked

---- sinks::three stdout ----

thread 'sinks::three' (4712) panicked at testing/e2e/tests/e2e/sinks.rs:20:5:
assertion failed: a
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    sinks::three
    sinks::two

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn after(output: &str) -> (Failures, u64) {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        let crashed = failures.end();
        (failures, crashed)
    }

    #[test]
    fn each_failed_test_is_named_with_the_place_and_the_message() {
        let (failures, crashed) = after(OUTPUT);
        assert_eq!(crashed, 0);
        let expected = "
failed tests:
  sinks::two
      thread 'sinks::two' (4711) panicked at testing/e2e/tests/e2e/sinks.rs:10:5:
      no report of 10.0.0.1 came; the daemon said:
      line 1
      line 2
      line 3
      line 4
      line 5
      thread 'sinks::two' (4711) panicked at testing/e2e/tests/e2e/sinks.rs:12:5:
      a thread panicked
  sinks::three
      thread 'sinks::three' (4712) panicked at testing/e2e/tests/e2e/sinks.rs:20:5:
      assertion failed: a";
        assert_eq!(failures.report().join("\n"), expected);
    }

    #[test]
    fn many_failures_share_the_lines() {
        let mut failures = Failures::default();
        (0..8).for_each(|_| OUTPUT.lines().for_each(|line| failures.read(line)));
        let report = failures.report();
        assert_eq!(report.iter().filter(|line| *line == "  sinks::two").count(), 8);
        assert!(report.len() <= LINES + 2, "{} lines:\n{}", report.len(), report.join("\n"));
        assert!(report.iter().any(|line| line.ends_with("sinks.rs:10:5:")));
        let long = vec!["thread 'a' panicked at b".to_owned(), "first".into(), "2".into(), "3".into(), "last".into()];
        assert_eq!(essence(&long, 4), ["thread 'a' panicked at b", "first", "[...]", "last"]);
    }

    #[test]
    fn a_program_that_ends_without_a_result_is_a_failure() {
        let (failures, crashed) = after("running 2 tests\ntest a::one ... ok\ntest a::two ... ");
        assert_eq!(crashed, 1);
        assert!(failures.report().join("\n").contains("a::two"), "{:?}", failures.report());
        let (failures, crashed) = after("running 2 tests\n..\ntest result: ok. 2 passed; 0 failed\n\nrunning 1 test\n");
        assert_eq!((crashed, failures.failed.len()), (1, 1));
    }

    #[test]
    fn success_prints_nothing() {
        let (failures, crashed) = after("running 1 test\n.\ntest result: ok. 1 passed; 0 failed\n");
        assert_eq!((failures.report(), crashed), (Vec::new(), 0));
    }
}
