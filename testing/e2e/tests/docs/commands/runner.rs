//! How a command is run: to its end, until it has shown what it should, or on a screen.

use std::time::{Duration, Instant};

use super::page::{Step, differs};
use super::stage::Stage;

/// Names the scenes that are to be run alone; what their commands print is then shown, to be taken into a page.
pub(super) const SCENES: &str = "GO_METRO_SCENES";
/// How long a command may take until it has printed what the page shows.
const LIMIT: Duration = Duration::from_secs(120);
/// How long `cargo xtask setup` may take where not all is there.
const SETUP_LIMIT: Duration = Duration::from_secs(300);

/// Commands that are not run: how they begin, why, and the test (or the part of the tests) that does what they do.
pub(super) const EXCUSED: [(&str, &str, &str); 11] = [
    ("cargo xtask test", "it is what runs this", "summaries_of_the_test_runner_add_up"),
    (
        "cargo xtask setup",
        "downloads, and there is no network in the scenes",
        "set_up_installs_packages_without_enabling_or_starting_their_services",
    ),
    ("cargo xtask fuzz", "a minute for each target; the tests run each for a while", "short"),
    (
        "cargo xtask docs",
        "writes into the tree; that it would change nothing is a test",
        "pages_made_from_the_program_are_current",
    ),
    ("cargo xtask clones", "builds two clones of the tree, and runs tests in them", "end_to_end"),
    ("cargo xtask dist", "builds for release", PACKAGE),
    ("cargo xtask kernels", "boots five machines; two of them are tests", "everything_works_on"),
    ("cargo install go-metro", "needs the registry to have it; from the packages it is tried by xtask", "install"),
    (
        "cargo test -p go-metro-rtt --test missing",
        "is a test itself",
        "no_sample_of_a_capture_with_frames_missing_is_refuted_by_those_that_are_left",
    ),
    ("podman build ", "on a machine made for it is a test", "what_the_page_says_of_the_image_can_be_done"),
    ("apt install ./target/dist/", "installs on the machine; on machines made for it is a test", PACKAGE),
];
/// It makes the package, installs it on a machine with a service manager, and measures.
pub(super) const PACKAGE: &str = "installing_the_package_is_enough_for_a_service_that_measures";

/// Programs of others that a page may show, run as they stand.
const OTHERS: [&str; 8] = ["curl ", "jq ", "promtool ", "setcap ", "getcap ", "ss ", "ip ", "systemd-analyze "];

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// To its end.
    Once,
    /// Until it has printed what is shown, then it is interrupted, and ends with 0.
    UntilShown,
    /// On a terminal, until it has drawn something of ours; then `q` is pressed.
    Screen,
    /// Not at all.
    Excused,
}

/// How a command is to be run; none for one that nobody knows.
pub(super) fn of(command: &str) -> Option<Runner> {
    if EXCUSED.iter().any(|(start, ..)| command.starts_with(start)) {
        return Some(Runner::Excused);
    }
    if OTHERS.iter().any(|start| command.starts_with(start)) {
        return Some(Runner::Once);
    }
    if command == "cargo xtask demo" || command == "cargo xtask setup" {
        return Some(Runner::Once);
    }
    if command.starts_with("prometheus ") {
        return Some(Runner::UntilShown);
    }
    let ours = command.strip_prefix("cargo xtask run -- ").or_else(|| command.strip_prefix("go-metro "))?;
    match ours.split(' ').next()? {
        "top" if ours.contains("--web") => Some(Runner::UntilShown),
        "top" => Some(Runner::Screen),
        "run" if !ours.contains("--duration") => Some(Runner::UntilShown),
        word if word.starts_with("-cfg") => Some(Runner::UntilShown),
        "run" | "read" | "record" | "check" | "status" | "config" | "completions" | "man" | "--help" | "--version" => {
            Some(Runner::Once)
        }
        _ => None,
    }
}

impl Runner {
    /// Runs a step; an error says what is wrong.
    pub(super) fn run(self, stage: &Stage, step: &Step) -> Result<(), String> {
        let command = step.command.replace("cargo xtask run -- ", "go-metro ").replace("cargo xtask ", "xtask ");
        if let Some(picture) = &step.picture {
            return stage.picture(&command, picture);
        }
        if self == Self::Screen {
            return stage.screen(&command);
        }
        let mut process = stage.start(&command);
        let deadline = Instant::now() + if command == "xtask setup" { SETUP_LIMIT } else { LIMIT };
        let mut wrong = Some("nothing came".to_owned());
        let mut interrupted = false;
        let status = loop {
            let lines = process.lines();
            if !lines.is_empty() || step.output.is_empty() {
                wrong = differs(&step.output, &lines);
            }
            if let Some(status) = process.ended() {
                break status;
            }
            // Without anything to compare, a line is enough.
            let is_shown = wrong.is_none() && !lines.is_empty();
            // What is to fail ends by itself, though it may take a moment longer than its last line.
            if self == Self::UntilShown && step.status == 0 && is_shown && !interrupted {
                process.interrupt();
                interrupted = true;
            }
            if Instant::now() > deadline {
                return Err(wrong.unwrap_or_else(|| format!("it does not end: {}", lines.join("\n  "))));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if std::env::var_os(SCENES).is_some() {
            println!("{}", process.lines().join("\n"));
        }
        if let Some(wrong) = differs(&step.output, &process.lines()) {
            return Err(wrong);
        }
        if self == Self::UntilShown && !interrupted && step.status == 0 {
            return Err(format!("it ended by itself ({status}): {}", process.lines().join("\n  ")));
        }
        let is_ours = command.starts_with("go-metro ") && !interrupted;
        if status != if is_ours { step.status } else { 0 } {
            return Err(format!("status {status}: {}", process.lines().join("\n  ")));
        }
        Ok(())
    }
}
