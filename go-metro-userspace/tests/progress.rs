//! The progress bar: at a terminal, and nowhere else.

#![allow(clippy::unwrap_used)]

use std::io::{BufWriter, Write as _};
use std::process::{Command, Output};

/// A pcap file of about 40 MB: one packet over and over.
fn long_capture() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(file.as_file());
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65535, 101] {
        out.write_all(&word.to_le_bytes()).unwrap();
    }
    let packet = [&[0x45_u8, 0, 7, 208, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 1980]].concat();
    for number in 0..20_000_u32 {
        for word in [number, 0, packet.len() as u32, packet.len() as u32] {
            out.write_all(&word.to_le_bytes()).unwrap();
        }
        out.write_all(&packet).unwrap();
    }
    out.flush().unwrap();
    drop(out);
    file
}

#[test]
fn a_long_file_shows_how_far_it_is_at_a_terminal_and_only_there() {
    let file = long_capture();
    let go_metro = env!("CARGO_BIN_EXE_go-metro");
    let piped = Command::new(go_metro).arg("read").arg(file.path()).output().unwrap();
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text(&piped).contains("20000 packets"), "{piped:?}");
    let errors = String::from_utf8_lossy(&piped.stderr);
    assert!(!errors.contains("MiB") && !errors.contains('\r'), "{errors:?}");

    // script(1) gives it a terminal; standard error goes there as well.
    let command = format!("'{go_metro}' read {}", file.path().display());
    let Ok(typed) = Command::new("script").args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").output() else {
        println!("skipped: no script(1) here");
        return;
    };
    let typed = text(&typed);
    assert!(typed.contains(" of 38.45 MiB") && typed.contains("20000 packets"), "{typed}");
    let last_line = typed.lines().last().unwrap();
    assert!(!last_line.contains(" of 38.45 MiB"), "the bar is cleared at the end: {last_line:?}");
}
