//! The go-metro binary: arguments to a call, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    go_metro::cli::main()
}
