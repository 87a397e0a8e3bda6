//! Four readers at once, through the till's drivers, the real pcscd and pseudo-terminals.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Command;

/// The bench ends with an error at the first tap that is lost, doubled or swapped.
#[test]
fn four_readers_at_once_lose_double_and_swap_no_tap() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--day", "400"])
        .env_remove("PCSCLITE_CSOCK_NAME")
        .output()
        .unwrap();
    std::io::stderr().write_all(&output.stdout).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{complaint}");
    assert_eq!(printed.matches(" 100 taps,").count(), 4, "{printed}");
}
