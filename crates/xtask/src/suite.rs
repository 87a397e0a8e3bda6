//! `cargo xtask test`: everything that must hold, with no skips.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::arguments::Test;
use crate::packages;
use crate::ports;
use crate::workspace;

/// Runs all steps, whatever the outcome of those before, and says how many passed.
pub(crate) fn run(options: &Test) -> anyhow::Result<()> {
    packages::require(packages::FOR_TEST, options.no_install)?;
    packages::fetch_kernel(
        &workspace::target()?.join("cloud-kernel"),
        options.no_install,
    )?;
    let mut suite = Suite::default();
    suite.step("format", format);
    suite.step("add the targets of readers without an OS", add_target);
    suite.step(
        "build a firmware for readers without an OS",
        build_without_os,
    );
    suite.step("build", || workspace::build(false).map(drop));
    suite.step("lints", lints);
    suite.step("documents", documents);
    suite.tests();
    suite.step("simulated worlds", worlds);
    suite.step("systemd units: syntax", verify_units);
    suite.step("systemd units: exposure at most 2.0", judge_units);
    suite.step("demo: the lunch", lunch);
    suite.sum_up()
}

/// What was run so far.
#[derive(Debug, Default)]
struct Suite {
    steps: Vec<Step>,
    tests: Tally,
}

/// A step that is over.
#[derive(Debug)]
struct Step {
    name: &'static str,
    time: Duration,
    passed: bool,
}

/// Tests by outcome.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Suite {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> anyhow::Result<()>) {
        println!("\n==> {name}");
        let begin = Instant::now();
        let outcome = run();
        let time = begin.elapsed();
        if let Err(error) = &outcome {
            println!("==> {name} FAILED: {error:#}");
        }
        let passed = outcome.is_ok();
        self.steps.push(Step { name, time, passed });
    }

    /// All tests of the workspace; each counts for itself, and all of them together as a step.
    fn tests(&mut self) {
        let mut tally = Tally::default();
        self.step("tests", || {
            let finished = tests(&mut tally)?;
            ensure!(tally.ignored == 0, "{} tests were ignored", tally.ignored);
            ensure!(finished, "cargo test failed");
            ensure!(tally.passed > 0, "no test was run");
            Ok(())
        });
        self.tests = tally;
    }

    fn sum_up(&self) -> anyhow::Result<()> {
        println!("\nTime of each step:");
        for Step { name, time, passed } in &self.steps {
            let word = if *passed { "ok" } else { "FAILED" };
            let seconds = time.as_secs();
            println!(
                "  {:>2}:{:02}  {word:6}  {name}",
                seconds / 60,
                seconds % 60
            );
        }
        let (passed, failed) = self.sum();
        println!("\n{passed} passed, {failed} failed");
        // The last line is for whoever counts; the exit code says the rest.
        std::io::stdout().flush()?;
        if failed > 0 {
            std::process::exit(1);
        }
        Ok(())
    }

    /// Tests and steps that passed and failed.
    fn sum(&self) -> (u64, u64) {
        let failed = self.steps.iter().filter(|step| !step.passed).count();
        let passed = self.steps.len() - failed;
        let steps = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (
            self.tests.passed + steps(passed),
            self.tests.failed + steps(failed),
        )
    }
}

impl Tally {
    /// Takes a line of a test program's output into account.
    fn note(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let Some((_, counts)) = counts.split_once(". ") else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, word)) = count.trim().split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn format() -> anyhow::Result<()> {
    run_cargo(&["fmt", "--all", "--check"])
}

fn add_target() -> anyhow::Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add"]).args(READER_TARGETS);
    // Toolchains without rustup bring their targets themselves; the build will tell.
    match rustup.status() {
        Ok(status) => {
            ensure!(status.success(), "rustup ended with {status}");
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("failed to run rustup"),
    }
}

fn build_without_os() -> anyhow::Result<()> {
    for target in READER_TARGETS {
        run_cargo(&[
            "build",
            "--release",
            "--package",
            "example-firmware",
            "--target",
            target,
        ])?;
    }
    Ok(())
}

fn lints() -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    succeed(&mut cargo)
}

fn documents() -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
    succeed(&mut cargo)
}

/// Runs all tests, passing on what they say; whether all programs could be built and succeeded.
fn tests(tally: &mut Tally) -> anyhow::Result<bool> {
    let mut cargo = workspace::cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("REQUIRE_ALL", "1")
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run cargo")?;
    let output = cargo.stdout.take().context("cargo has no output")?;
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    // Bytes and not text: a test may print what it likes.
    while lines.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        tally.note(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(cargo.wait()?.success())
}

/// Always the same seeds, so that the outcome does not depend on how fast the machine is.
fn worlds() -> anyhow::Result<()> {
    let words = ["--seeds", "1000"];
    let run = ["run", "--package", "simulation", "--bin", "simulate", "--"];
    succeed(workspace::cargo().args(run).args(words))
}

/// systemd-analyze wants the programs that a unit names, so they are named where they were built.
fn verify_units() -> anyhow::Result<()> {
    let programs = workspace::build(false)?;
    let directory = workspace::target()?.join("units");
    fs::create_dir_all(&directory)?;
    let mut copies = Vec::new();
    for unit in units()? {
        let text = fs::read_to_string(&unit)?
            .replace("/usr/bin/tilld", &programs.tilld.to_string_lossy())
            .replace("/usr/bin/hubd", &programs.hubd.to_string_lossy());
        let copy = directory.join(unit.file_name().unwrap_or_default());
        fs::write(&copy, text)?;
        copies.push(copy);
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", "--recursive-errors=no"]);
    analyze.args(copies);
    succeed(&mut analyze)
}

fn judge_units() -> anyhow::Result<()> {
    for unit in units()? {
        let mut analyze = Command::new("systemd-analyze");
        analyze
            .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
            .arg(&unit)
            .stdout(Stdio::piped());
        let output = analyze.output().context("failed to run systemd-analyze")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict = said.lines().rfind(|line| line.contains("exposure level"));
        println!("{}", verdict.unwrap_or("no verdict"));
        ensure!(output.status.success(), "{} is too exposed", unit.display());
    }
    Ok(())
}

fn units() -> anyhow::Result<Vec<PathBuf>> {
    let mut units = Vec::new();
    for file in fs::read_dir(workspace::root().join("systemd"))? {
        let path = file?.path();
        if path.extension().is_some_and(|kind| kind == "service") {
            units.push(path);
        }
    }
    units.sort();
    ensure!(!units.is_empty(), "no units in systemd/");
    Ok(units)
}

/// The lunch on ports and in a directory of its own, so that an open demo is not disturbed.
fn lunch() -> anyhow::Result<()> {
    let ports = ports::choose_free()?;
    // Not by its name: the tests have built this very program again meanwhile.
    let mut lunch = Command::new("/proc/self/exe");
    lunch.args(["demo", "--script", "--no-install"]);
    for (flag, port) in [
        ("--hub-port", ports.hub),
        ("--page-port", ports.page),
        ("--gateway-port", ports.gateway),
        ("--readers-port", ports.readers),
    ] {
        lunch.arg(flag).arg(port.to_string());
    }
    lunch
        .arg("--directory")
        .arg(workspace::target()?.join("lunch"));
    succeed(&mut lunch)
}

fn run_cargo(arguments: &[&str]) -> anyhow::Result<()> {
    succeed(workspace::cargo().args(arguments))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("failed to run {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// Processors as readers have them: no operating system, no allocator, the smaller one without a
/// division.
const READER_TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "thumbv6m-none-eabi"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], passed: u64, failed: u64, ignored: u64) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.note(line));
        let expected = Tally {
            passed,
            failed,
            ignored,
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        check(
            &[
                "running 3 tests",
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                "test result: FAILED. 40 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 1.25s",
            ],
            43,
            2,
            1,
        );
    }

    #[test]
    fn other_lines_count_for_nothing() {
        check(&["test tests::a ... ok", "5 passed; 5 failed", ""], 0, 0, 0);
    }

    #[test]
    fn a_failed_step_is_counted_beside_the_tests() {
        let mut suite = Suite::default();
        suite.step("one that passes", || Ok(()));
        suite.step("one that fails", || bail!("on purpose"));
        suite.tests = Tally {
            passed: 10,
            failed: 3,
            ignored: 0,
        };
        assert_eq!(suite.sum(), (11, 4));
    }
}
