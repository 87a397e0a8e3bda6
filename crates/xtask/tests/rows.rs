//! The tables of cases that money is held to, row by row: purchases at a till (`obt_`), what till and
//! hub say to each other (`sy_`), automatic top-ups (`tu_`). Every row is a test whose name begins with
//! the row's, somewhere in the workspace; what a row asks for stands in its test.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every function under `directory` that is marked as a test.
fn collect_tests(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect_tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let tests = lines.windows(REACH).filter(|lines| is_test_mark(lines[0]));
            found.extend(tests.filter_map(|lines| lines.iter().find_map(|line| function(line))));
        }
    }
}

fn is_test_mark(line: &str) -> bool {
    line == "#[test]" || line.starts_with("#[tokio::test")
}

fn function(line: &str) -> Option<String> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let name = line.strip_prefix("fn ")?;
    Some(name.split('(').next()?.to_owned())
}

#[track_caller]
fn check(table: &str, rows: &[String]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for part in ["crates", "hw-tests"] {
        collect_tests(&root.join(part), &mut tests);
    }
    let is_tried = |row: &String| {
        let start = format!("{table}_{row}_");
        tests.iter().any(|test| test.starts_with(&start))
    };
    let missing: Vec<&String> = rows.iter().filter(|row| !is_tried(row)).collect();
    assert!(missing.is_empty(), "no test for {table} {missing:?}");
}

fn numbers(last: u32) -> Vec<String> {
    (1..=last).map(|number| format!("{number:02}")).collect()
}

#[test]
fn every_row_about_purchases_is_a_test() {
    let mut rows = numbers(32);
    rows.retain(|row| row != "10");
    rows.extend(["10a", "10b"].map(str::to_owned));
    check("obt", &rows);
}

#[test]
fn every_row_about_till_and_hub_is_a_test() {
    check("sy", &numbers(40));
}

#[test]
fn every_row_about_top_ups_is_a_test() {
    check("tu", &numbers(52));
}

/// So many lines below its mark a test's name stands at the latest.
const REACH: usize = 4;
