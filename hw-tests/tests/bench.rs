//! Every rig of `rigs/`: the virtual ones must run in full, the real ones run when connected.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Command;

use hw_tests::behaviour::BEHAVIOURS;
use hw_tests::rig::Rig;
use hw_tests::table;

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
/// possible there, and as the README says.
#[track_caller]
fn check(name: &str, impossible: usize) {
    let outcomes = table::outcomes(name, &run(name));
    assert_eq!(outcomes.len(), BEHAVIOURS.len(), "{outcomes:#?}");
    let readme = std::fs::read_to_string(table::readme()).unwrap();
    assert_eq!(
        outcomes,
        table::column(&readme, name).unwrap(),
        "the README is old; renew it with: cargo run -p hw-tests --bin bench -- --write-table"
    );
    let is_impossible = |outcome: &&table::Outcome| outcome.impossible.is_some();
    assert_eq!(outcomes.iter().filter(is_impossible).count(), impossible);
}

#[test]
fn the_virtual_pcsc_rig_shows_every_behaviour() {
    // PC/SC cannot count chips, is there for several programs, and has no line that could be
    // disturbed in four ways.
    check("virtual-pcsc", 6);
}

#[test]
fn the_virtual_pcsc_rig_with_the_stock_driver_shows_every_behaviour() {
    check("virtual-pcsc-stock", 6);
}

#[test]
fn the_virtual_serial_rig_shows_every_behaviour() {
    // Nobody can come between the till and a line that it holds, and no service is in front of it.
    check("virtual-serial", 3);
}

#[test]
fn the_virtual_pn532_rig_shows_every_behaviour() {
    // It has no light, either.
    check("virtual-pn532", 4);
}

#[test]
fn the_virtual_rdm6300_rig_shows_every_behaviour() {
    // It cannot be asked, shown anything, nor count.
    check("virtual-rdm6300", 7);
}

#[test]
fn the_virtual_twn4_rig_shows_every_behaviour() {
    check("virtual-twn4", 3);
}

#[test]
fn the_virtual_twn4_rig_without_checksums_shows_every_behaviour() {
    // Without a checksum nothing tells what is damaged.
    check("virtual-twn4-plain", 4);
}

#[test]
fn the_virtual_keyboard_rig_shows_every_behaviour() {
    // It types each number once, without a checksum, and can be asked and shown nothing.
    check("virtual-keyboard", 9);
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
