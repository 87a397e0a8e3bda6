//! The runbook: every page that a message names is there, and the commands on the pages exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::programs;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// How a message, or a link, names a page.
const NAMING: [&str; 2] = ["runbook/", "runbook page "];

fn runbook() -> PathBuf {
    Path::new(ROOT).join("systemd/runbook")
}

fn pages() -> Vec<PathBuf> {
    let pages = fs::read_dir(runbook()).unwrap();
    pages.map(|page| page.unwrap().path()).collect()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for it in fs::read_dir(dir).unwrap() {
        let path = it.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

/// The pages that a text names, as `NAME.md`.
fn named(text: &str) -> BTreeSet<String> {
    let after = NAMING.iter().flat_map(|naming| text.split(naming).skip(1));
    after
        .filter_map(|rest| {
            let length = rest.find(".md")?;
            let name = &rest[..length];
            let is_name = |it: char| it.is_ascii_lowercase() || it == '-';
            (length > 0 && name.chars().all(is_name)).then(|| format!("{name}.md"))
        })
        .collect()
}

#[test]
fn every_page_of_the_runbook_that_a_message_names_is_there() {
    let mut files = Vec::new();
    for part in [
        "till-ledger",
        "tilld",
        "till-page",
        "till-readers",
        "tillctl",
        "hubd",
    ] {
        sources(
            &Path::new(ROOT).join("crates").join(part).join("src"),
            &mut files,
        );
    }
    let mut seen = BTreeSet::new();
    for file in files {
        for page in named(&fs::read_to_string(&file).unwrap()) {
            assert!(
                runbook().join(&page).is_file(),
                "{}: {page}",
                file.display()
            );
            seen.insert(page);
        }
    }
    // A search that finds nothing would prove nothing.
    for page in [
        "cloned-till.md",
        "clock.md",
        "full-disk.md",
        "hub-restored.md",
        "rolled-back-disk.md",
    ] {
        assert!(seen.contains(page), "{page} is in no message: {seen:?}");
    }
    let readme = fs::read_to_string(Path::new(ROOT).join("systemd/README.md")).unwrap();
    let there = pages();
    let there = there.iter().map(|page| page.file_name().unwrap());
    let there: BTreeSet<String> = there.map(|it| it.to_string_lossy().into_owned()).collect();
    assert_eq!(named(&readme), there);
}

/// The command's own words, and its options; places for something else are left out.
fn words(command: &str) -> (Vec<&str>, Vec<&str>) {
    let words = command.split(' ').skip(1);
    let (options, words): (Vec<&str>, Vec<&str>) = words.partition(|it| it.starts_with("--"));
    let is_word = |it: &&str| it.chars().all(|it| it.is_ascii_lowercase());
    (words.into_iter().filter(is_word).collect(), options)
}

#[test]
fn every_command_of_tillctl_in_the_runbook_exists_with_its_options() {
    let mut tried = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let spans = text.split('`').skip(1).step_by(2);
        for command in spans.filter(|it| it.starts_with("tillctl ")) {
            let (words, options) = words(command);
            let mut help = Command::new(&programs().tillctl);
            let help = help.args(&words).arg("--help").output().unwrap();
            let shown = String::from_utf8_lossy(&help.stdout);
            let usage = format!("tillctl {}", words.join(" "));
            assert!(
                help.status.success() && shown.contains(&usage),
                "{}: {command}: {shown}",
                page.display()
            );
            for option in options {
                assert!(shown.contains(option), "{}: {command}", page.display());
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} commands");
}

#[test]
fn every_page_is_danish_first_then_english_with_as_many_steps() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let parts: Vec<&str> = text.split("\n# ").collect();
        let [danish, english] = parts[..] else {
            panic!("{}: {} languages", page.display(), parts.len());
        };
        let steps = |part: &str| {
            let numbered = part.lines().filter(|line| {
                let digit = line.split_once(". ");
                digit.is_some_and(|(number, _)| number.parse::<u8>().is_ok())
            });
            numbered.count()
        };
        assert!(steps(danish) >= 3, "{}", page.display());
        assert_eq!(steps(danish), steps(english), "{}", page.display());
    }
}
