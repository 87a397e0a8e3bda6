//! `cargo xtask bench`: the figures of till and hub against their targets.
//!
//! How fast and how flat the ledger is, `till-ledger`'s own bench measures against the floor of the
//! same disk, and how fast the hub books a till's backlog, `hub-ledger`'s. Here the real daemon is
//! measured: from its start to the moment when it tells the service manager that it is ready, and
//! its memory. The reader bench adds how long a tap takes to become an event, and what four readers
//! cost at rest.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Map, Value};

use crate::arguments::Bench;
use crate::packages;
use crate::part::Part;
use crate::ports;
use crate::signal;
use crate::site::Site;
use crate::till::{ChipNumber, Till};
use crate::workspace;

/// A figure, its target, and what it says.
struct Target {
    key: &'static str,
    at_most: f64,
    meaning: &'static str,
}

const TARGETS: [Target; 19] = [
    target(
        "tap_p50_ratio",
        1.25,
        "median tap, against the disk's floor",
    ),
    target(
        "tap_p99_ratio",
        1.5,
        "slowest tap of a hundred, against the floor",
    ),
    target("tap_syncs", 1.05, "flushes of the disk for each tap"),
    target("tap_wal_frames", 3.0, "database pages written for each tap"),
    target("flat_ledger_ratio", 1.15, "a million sales against none"),
    target(
        "flat_accounts_ratio",
        1.15,
        "a million accounts against a thousand",
    ),
    target(
        "backlog_drain",
        30.0,
        "a till's backlog read and booked, against inserting its texts",
    ),
    target(
        "backlog_flat_ratio",
        1.25,
        "the second half of a backlog against the first",
    ),
    target(
        "backlog_batch_ms",
        1000.0,
        "milliseconds for 500 entries of a backlog",
    ),
    target("start_ms", 50.0, "milliseconds from start to ready"),
    target("rss_mb", 40.0, "megabytes of memory"),
    target(
        "reader_pcsc_own_ms",
        2.0,
        "from the chip's answer to the event, PC/SC",
    ),
    target(
        "reader_serial_own_ms",
        2.0,
        "from the reader's last byte to the event, own",
    ),
    target("reader_pn532_own_ms", 2.0, "the same, PN532"),
    target("reader_rdm6300_own_ms", 2.0, "the same, RDM6300"),
    target("reader_twn4_own_ms", 2.0, "the same, TWN4"),
    target(
        "reader_keyboard_own_ms",
        5.0,
        "from the Enter of one that types, in a computed machine",
    ),
    target(
        "proof_cost_ratio",
        2.5,
        "the till's part of a chip's proof, against its AES alone",
    ),
    target(
        "readers_idle_percent",
        1.0,
        "of a core, idle with four readers",
    ),
];

const fn target(key: &'static str, at_most: f64, meaning: &'static str) -> Target {
    Target {
        key,
        at_most,
        meaning,
    }
}

/// Measures, prints a table, and writes the figures to a file if asked to.
pub(crate) fn run(options: &Bench) -> anyhow::Result<()> {
    packages::require(packages::FOR_BENCH, options.no_install)?;
    let kernel = workspace::target()?.join("cloud-kernel");
    packages::fetch_kernel(&kernel, options.no_install)?;
    let directory = workspace::target()?.join("bench");
    fs::create_dir_all(&directory)?;
    let mut figures = measure_ledger("till-ledger", "tap", &directory)?;
    figures.extend(measure_ledger("hub-ledger", "drain", &directory)?);
    figures.extend(measure_till(&directory)?);
    figures.extend(measure_readers(&directory)?);
    if let Some(json) = &options.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(json, text).with_context(|| format!("failed to write {}", json.display()))?;
    }
    print_table(&figures)
}

fn measure_ledger(
    package: &str,
    bench: &str,
    directory: &Path,
) -> anyhow::Result<Map<String, Value>> {
    let json = directory.join(format!("{bench}.json"));
    let status = workspace::cargo()
        .args(["bench", "--package", package, "--bench", bench, "--"])
        .arg("--json")
        .arg(&json)
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "the bench of {package} failed");
    let text = fs::read_to_string(&json)?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON object", json.display()))
}

/// The reader bench's own figures: how long an event takes, and what readers cost at rest.
fn measure_readers(directory: &Path) -> anyhow::Result<Map<String, Value>> {
    let tilld = workspace::build(true)?.tilld;
    let mut figures = Map::new();
    for (file, option) in [("speed.json", "--speed"), ("idle.json", "--idle")] {
        let json = directory.join(file);
        let mut bench = workspace::cargo();
        bench.args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "hw-tests",
            "--bin",
            "bench",
        ]);
        bench.args(["--", option]);
        if option == "--idle" {
            bench.arg(&tilld);
        }
        let status = bench
            .arg("--json")
            .arg(&json)
            .status()
            .context("failed to run cargo")?;
        ensure!(status.success(), "the reader bench failed");
        let text = fs::read_to_string(&json)?;
        let found: Map<String, Value> = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON object", json.display()))?;
        figures.extend(found);
    }
    Ok(figures)
}

fn measure_till(directory: &Path) -> anyhow::Result<Map<String, Value>> {
    let programs = workspace::build(true)?;
    signal::catch();
    let ports = ports::choose_free()?;
    let mut site = Site::lay_out(programs, &directory.join("site"), ports, true)?;
    site.start()?;
    sell_a_little(&site)?;
    site.stop_till();
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (time, till) = start_until_ready(&site)?;
        till.stop();
        starts.push(time);
    }
    starts.sort();
    let median = starts.get(STARTS / 2).copied().unwrap_or_default();
    let (_, till) = start_until_ready(&site)?;
    let memory = memory_after_questions(&site, &till)?;
    till.stop();
    let mut figures = Map::new();
    figures.insert("start_ms".to_owned(), thousandths(median.as_micros())?);
    figures.insert("rss_mb".to_owned(), thousandths(u128::from(memory / 1000))?);
    Ok(figures)
}

/// A ledger as after the first minutes of a lunch.
fn sell_a_little(site: &Site) -> anyhow::Result<()> {
    let till = Till::of(site);
    let deadline = Instant::now() + Duration::from_secs(30);
    while till.balance(CUSTOMER).is_err() {
        ensure!(Instant::now() < deadline, "the till got no accounts");
        thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..SALES {
        let sale = till.sell(CUSTOMER, &["1x Ostehaps 3,00"], None)?;
        ensure!(sale.decision == "approved", "a sale was refused: {sale:?}");
    }
    Ok(())
}

/// Starts the till as a service manager does, and takes the time until it says that it is ready.
fn start_until_ready(site: &Site) -> anyhow::Result<(Duration, Part)> {
    let path = site.directory().join("notify.sock");
    // A socket of the start before; a missing one is what is wanted.
    let _ = fs::remove_file(&path);
    let notifications = UnixDatagram::bind(&path).context("failed to make a notify socket")?;
    notifications.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut command: Command = site.till_command();
    command.env("NOTIFY_SOCKET", &path);
    let begin = Instant::now();
    let till = Part::start("tilld", &mut command, &site.directory().join("tilld.log"))?;
    let mut message = [0; 4096];
    loop {
        let length = notifications
            .recv(&mut message)
            .with_context(|| format!("the till never said that it is ready\n{}", till.tail()))?;
        let time = begin.elapsed();
        let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
        if text.lines().any(|line| line == "READY=1") {
            return Ok((time, till));
        }
    }
}

/// Bytes that the till holds after many questions and some rest.
fn memory_after_questions(site: &Site, till: &Part) -> anyhow::Result<u64> {
    for _ in 0..QUESTIONS {
        let mut connection = UnixStream::connect(site.control_socket())?;
        connection.write_all(b"{\"do\":\"status\"}\n")?;
        let mut answer = String::new();
        BufReader::new(connection).read_line(&mut answer)?;
        ensure!(answer.contains("head_seq"), "the till answered {answer:?}");
    }
    thread::sleep(Duration::from_secs(2));
    let status = fs::read_to_string(format!("/proc/{}/status", till.pid()))?;
    resident_bytes(&status).context("the kernel does not say how much memory the till holds")
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// A number of thousandths as a decimal fraction.
fn thousandths(number: u128) -> anyhow::Result<Value> {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    Ok(serde_json::from_str(&text)?)
}

fn print_table(figures: &Map<String, Value>) -> anyhow::Result<()> {
    println!("\n{:<20} {:>8} {:>8}  ", "figure", "found", "target");
    for Target {
        key,
        at_most,
        meaning,
    } in TARGETS
    {
        let found = figures.get(key).and_then(Value::as_f64);
        let found = found.with_context(|| format!("nobody measured {key}"))?;
        let word = if found <= at_most {
            ""
        } else {
            "OVER THE TARGET: "
        };
        println!("{key:<20} {found:>8.2} {at_most:>8.2}  {word}{meaning}");
    }
    Ok(())
}

const CUSTOMER: ChipNumber = ChipNumber("72BF9961");
const SALES: usize = 20;
const STARTS: usize = 9;
const QUESTIONS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_memory_is_held() {
        let status = "Name:\ttilld\nVmPeak:\t  90000 kB\nVmRSS:\t   23456 kB\n";
        assert_eq!(resident_bytes(status), Some(23456 * 1024));
        assert_eq!(resident_bytes("Name:\ttilld\n"), None);
    }

    #[test]
    fn thousandths_are_written_without_rounding() {
        assert_eq!(thousandths(12_345).unwrap().to_string(), "12.345");
        assert_eq!(thousandths(7).unwrap().to_string(), "0.007");
    }

    #[test]
    fn a_table_wants_every_figure() {
        let mut figures: Map<String, Value> = TARGETS
            .iter()
            .map(|target| (target.key.to_owned(), Value::from(1)))
            .collect();
        print_table(&figures).unwrap();
        figures.remove("rss_mb");
        let error = print_table(&figures).unwrap_err();
        assert_eq!(error.to_string(), "nobody measured rss_mb");
    }
}
