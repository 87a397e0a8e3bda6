//! Every rig of `rigs/`: the virtual ones must run in full, the real ones run when connected.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Command;

use hw_tests::behaviour::BEHAVIOURS;
use hw_tests::rig::Rig;

/// Runs a rig and says what the bench printed; past the capture of test output, since a skip must
/// be seen.
fn run(name: &str) -> String {
    let files = Rig::files().unwrap();
    let file = files
        .iter()
        .find(|file| file.file_stem().unwrap() == name)
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg(file)
        .env_remove("PCSCLITE_CSOCK_NAME")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    std::io::stderr().write_all(printed.as_bytes()).unwrap();
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Runs a virtual rig and checks that it went through all behaviours, with as many that are not
/// possible there.
#[track_caller]
fn check(name: &str, impossible: usize) {
    let printed = run(name);
    assert_eq!(
        printed.matches(": not possible here").count(),
        impossible,
        "{printed}"
    );
    assert_eq!(
        printed.matches(": ok, ").count(),
        BEHAVIOURS.len() - impossible,
        "{printed}"
    );
}

#[test]
fn the_virtual_pcsc_rig_shows_every_behaviour() {
    // PC/SC cannot count chips.
    check("virtual-pcsc", 1);
}

#[test]
fn the_virtual_serial_rig_shows_every_behaviour() {
    // Nobody can come between the till and a line that it holds.
    check("virtual-serial", 2);
}

#[test]
fn every_real_rig_runs_or_says_why_not() {
    for file in Rig::files().unwrap() {
        let rig = Rig::load(&file).unwrap();
        if !rig.is_virtual() {
            let printed = run(&rig.name);
            assert!(
                printed.contains(": ok, ") || printed.contains("SKIPPED"),
                "{printed}"
            );
        }
    }
}
