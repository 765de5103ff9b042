//! The go-metro binary; all of it is in the library of go-metro-userspace.

use std::process::ExitCode;

fn main() -> ExitCode {
    go_metro::cli::main()
}
