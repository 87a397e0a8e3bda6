//! The crates know each other only downwards, the core knows nothing of the world, and the top of
//! the tree stays as it is: read from the manifests, so that a wrong arrow fails here and not in
//! a review.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On a floor of the product; it may use crates on lower floors only.
    Floor(u8),
    /// Beside the product; nothing in the product may use it.
    Aside,
}

use Place::{Aside, Floor};

const PLACES: &[(&str, Place)] = &[
    ("tilld", Floor(3)),
    ("tillctl", Floor(3)),
    ("hubd", Floor(3)),
    ("till-ledger", Floor(2)),
    ("till-readers", Floor(2)),
    ("till-page", Floor(2)),
    ("till-control", Floor(2)),
    ("hub-ledger", Floor(2)),
    ("hub-payments", Floor(2)),
    ("sync-proto", Floor(1)),
    ("chip-keys", Floor(1)),
    ("canteen", Floor(0)),
    ("firmware-proto", Floor(0)),
    ("simulation", Aside),
    ("hub-conformance", Aside),
    ("example-firmware", Aside),
    ("hw-tests", Aside),
    ("virtual-pcd", Aside),
    ("xtask", Aside),
];

/// Crates outside this workspace that the core may use: calculation, no I/O and no clock of their own.
const CORE_MAY_USE: &[&str] = &["jiff", "rust_decimal", "thiserror"];

/// Only these speak with a reader of the project's own make.
const USERS_OF_FIRMWARE_PROTO: &[&str] = &["till-readers", "hw-tests", "example-firmware"];

const VISIBLE_TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "config",
    "crates",
    "firmware-proto",
    "hw-tests",
    "systemd",
];

/// One crate using another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// In what is shipped.
    Shipped,
    /// In its tests, examples and benches.
    Tests,
}

fn place(name: &str) -> Option<Place> {
    let mut places = PLACES.iter();
    places.find_map(|(crate_name, place)| (*crate_name == name).then_some(*place))
}

/// What is wrong with `user` using `used`, if anything.
fn objection(user: &str, used: &str, how: Use) -> Option<String> {
    if used == "firmware-proto" && !USERS_OF_FIRMWARE_PROTO.contains(&user) {
        return Some(format!("{user} must not know firmware-proto"));
    }
    match (place(user)?, place(used)?, how) {
        (Floor(from), Floor(to), _) if to < from => None,
        (Floor(_), Floor(_), _) => Some(format!("{user} must not know {used}: arrows point down")),
        (Floor(_), Aside, Use::Tests) if used == "hw-tests" => None,
        (Floor(_), Aside, _) => Some(format!("{user} is the product, {used} is not")),
        (Aside, _, _) => None,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manifest(path: &Path) -> Table {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The manifests of all members, by the crate's name.
fn members() -> BTreeMap<String, Table> {
    let workspace = manifest(&root().join("Cargo.toml"));
    let patterns = workspace["workspace"]["members"].as_array().unwrap();
    let mut directories = Vec::new();
    for pattern in patterns {
        let pattern = pattern.as_str().unwrap();
        match pattern.strip_suffix("/*") {
            None => directories.push(root().join(pattern)),
            Some(parent) => {
                let entries = std::fs::read_dir(root().join(parent)).unwrap();
                let entries = entries.map(|entry| entry.unwrap().path());
                directories.extend(entries.filter(|path| path.join("Cargo.toml").is_file()));
            }
        }
    }
    directories
        .iter()
        .map(|directory| manifest(&directory.join("Cargo.toml")))
        .map(|manifest| {
            (
                manifest["package"]["name"].as_str().unwrap().to_owned(),
                manifest,
            )
        })
        .collect()
}

/// The crates that a manifest names, with how they are used; renamed ones by their real name.
fn uses(manifest: &Table) -> Vec<(String, Use)> {
    let mut uses = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    for table in std::iter::once(manifest).chain(targets.filter_map(Value::as_table)) {
        for (section, how) in [
            ("dependencies", Use::Shipped),
            ("build-dependencies", Use::Shipped),
            ("dev-dependencies", Use::Tests),
        ] {
            let section = table.get(section).and_then(Value::as_table);
            for (name, dependency) in section.into_iter().flatten() {
                let real = dependency.get("package").and_then(Value::as_str);
                uses.push((real.unwrap_or(name).to_owned(), how));
            }
        }
    }
    uses
}

#[test]
fn every_crate_has_a_place() {
    for name in members().keys() {
        assert!(place(name).is_some(), "say on which floor {name} stands");
    }
}

#[test]
fn every_place_is_that_of_a_crate() {
    let members = members();
    for (name, _) in PLACES {
        assert!(members.contains_key(*name), "there is no crate {name}");
    }
}

#[test]
fn arrows_only_point_down() {
    let mut objections = Vec::new();
    for (user, manifest) in members() {
        for (used, how) in uses(&manifest) {
            objections.extend(objection(&user, &used, how));
        }
    }
    assert_eq!(objections, Vec::<String>::new());
}

#[test]
fn a_wrong_arrow_is_noticed() {
    let objects = |user, used, how| objection(user, used, how).is_some();
    assert!(!objects("tilld", "till-ledger", Use::Shipped));
    assert!(!objects("tilld", "canteen", Use::Shipped));
    assert!(!objects("tilld", "serde", Use::Shipped));
    assert!(!objects("tilld", "hw-tests", Use::Tests));
    assert!(!objects("hw-tests", "tilld", Use::Shipped));
    assert!(objects("till-ledger", "tilld", Use::Shipped));
    assert!(objects("till-ledger", "till-page", Use::Tests));
    assert!(objects("tilld", "hubd", Use::Tests));
    assert!(objects("canteen", "sync-proto", Use::Shipped));
    assert!(objects("tilld", "hw-tests", Use::Shipped));
    assert!(objects("tilld", "simulation", Use::Tests));
    assert!(objects("tilld", "firmware-proto", Use::Shipped));
    assert!(!objects("till-readers", "firmware-proto", Use::Shipped));
}

#[test]
fn a_manifest_names_crates_in_all_its_sections() {
    let manifest = "
        [dependencies]
        a.workspace = true
        b = { package = 'c', version = '1' }
        [build-dependencies]
        d = '1'
        [dev-dependencies]
        e = '1'
        [target.'cfg(unix)'.dependencies]
        f = '1'
    ";
    let mut uses = uses(&manifest.parse().unwrap());
    uses.sort_by(|one, other| one.0.cmp(&other.0));
    let named = |name: &str, how| (name.to_owned(), how);
    assert_eq!(
        uses,
        [
            named("a", Use::Shipped),
            named("c", Use::Shipped),
            named("d", Use::Shipped),
            named("e", Use::Tests),
            named("f", Use::Shipped),
        ]
    );
}

#[test]
fn the_core_knows_nothing_of_the_world() {
    let core = &members()["canteen"];
    for (used, how) in uses(core) {
        if how == Use::Shipped {
            assert!(
                CORE_MAY_USE.contains(&used.as_str()),
                "canteen must not use {used}: it has no I/O, no clock and no wire format"
            );
        }
    }
}

#[test]
fn the_visible_top_of_the_tree_is_as_laid_out() {
    let tracked = Command::new("git")
        .arg("ls-files")
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(tracked.status.success(), "not a git checkout");
    let tracked = String::from_utf8(tracked.stdout).unwrap();
    let mut top: Vec<&str> = tracked
        .lines()
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.starts_with('.'))
        .collect();
    top.sort_unstable();
    top.dedup();
    assert_eq!(top, VISIBLE_TOP);
}
