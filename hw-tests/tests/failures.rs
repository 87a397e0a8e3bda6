//! The README's table of what goes wrong in the field: each row names tests that exist.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use hw_tests::behaviour::BEHAVIOURS;
use hw_tests::rig::{Rig, RigReader};
use hw_tests::table;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_failure_of_the_field_names_what_shows_its_cure() {
    let readme = fs::read_to_string(table::readme()).unwrap();
    let (_, section) = readme.split_once("## When readers fail").unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    assert!(rows.len() >= 17, "{}", rows.len());
    for row in rows {
        let shown = row.trim_matches(['|', ' ']).rsplit(" | ").next().unwrap();
        assert!(check(shown) > 0, "nothing shows it: {row}");
    }
}

/// How many names a cell has; each must be a behaviour, a rig, or a test in the file named after it.
#[track_caller]
fn check(shown: &str) -> usize {
    let behaviours = shown.split('"').skip(1).step_by(2);
    let behaviours = behaviours.inspect(|sentence| {
        let is_known = BEHAVIOURS.iter().any(|each| each.sentence == *sentence);
        assert!(is_known, "no behaviour: {sentence}");
    });
    let mut count = behaviours.count();
    let quoted: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
    let is_file = |name: &str| name.ends_with(".rs");
    for (at, name) in quoted.iter().enumerate().filter(|(_, name)| !is_file(name)) {
        count += 1;
        if *name == "virtual-keyboard" {
            continue;
        }
        let file = quoted[at..].iter().find(|name| is_file(name)).unwrap();
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}()")), "{name} in {file}");
    }
    count
}

#[test]
fn supported_readers_never_sleep_and_no_kernel_driver_takes_them() {
    let rules = fs::read_to_string(root().join("systemd/93-kasse-readers.rules")).unwrap();
    let awake = |vendor: &str, product: &str| {
        rules.lines().any(|line| {
            line.contains(&format!("ATTR{{idVendor}}==\"{vendor}\""))
                && line.contains(product)
                && line.contains("ATTR{power/control}=\"on\"")
        })
    };
    let mut count = 0;
    for file in Rig::files().unwrap() {
        if let RigReader::Pcsc { usb, .. } = Rig::load(&file).unwrap().reader {
            let (vendor, product) = usb.split_once(':').unwrap();
            assert!(awake(vendor, product), "{usb} may sleep");
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
    let blacklist = fs::read_to_string(root().join("systemd/kasse-modprobe.conf")).unwrap();
    for driver in ["pn533_usb", "pn533", "nfc"] {
        let line = format!("blacklist {driver}");
        assert!(blacklist.lines().any(|said| said == line), "{driver}");
    }
}
