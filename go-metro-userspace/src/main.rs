//! The go-metro binary: arguments to a call, nothing else.

fn main() {}
