//! The reader bench's command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::{Args, Parser};
use hw_tests::behaviour::BEHAVIOURS;
use hw_tests::bench::Bench;
use hw_tests::hands::{Able, Hands, Person, VirtualPcscHands, VirtualSerialHands};
use hw_tests::idle;
use hw_tests::keyboard::KeyboardHands;
use hw_tests::machine::{self, Machine};
use hw_tests::proof_cost;
use hw_tests::rig::{Rig, RigReader};
use hw_tests::stations::{self, Station};
use hw_tests::table;
use hw_tests::typed_speed;
use till_readers::ReaderConfig;

/// Tries the till's reader drivers against readers: virtual ones everywhere, real ones where they
/// are connected
///
/// Without options, every rig of hw-tests/rigs shows every behaviour; a real rig whose reader is not
/// connected is skipped with a printed line.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    what: What,

    /// A person is here to lay and lift chips at real readers
    #[arg(long, conflicts_with_all = ["write_table", "day", "speed", "idle"])]
    hands: bool,

    /// The rigs to run, instead of all
    #[arg(value_name = "RIG.toml", conflicts_with_all = ["write_table", "day", "speed", "idle"])]
    rigs: Vec<PathBuf>,

    /// Write the figures of --speed or --idle into this file as well, as JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["write_table", "day", "hands", "rigs"])]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct What {
    /// Run the virtual rigs and write what they showed into hw-tests/README.md
    #[arg(long)]
    write_table: bool,

    /// Serve so many customers at four readers at once: none lost, doubled or swapped. 10000 take a
    /// quarter of an hour
    #[arg(long, value_name = "TAPS", value_parser = clap::value_parser!(u32).range(4..))]
    day: Option<u32>,

    /// Take the time from tap to event at each driver, and what a chip's proof costs
    #[arg(long)]
    speed: bool,

    /// Take how much of the processor this tilld needs with four readers and nobody there
    #[arg(long, value_name = "TILLD")]
    idle: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    if machine::is_inside() {
        machine::run_inside(inside)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cli = Cli::parse();
    let json = cli.json.as_deref();
    match cli.what {
        What {
            write_table: true, ..
        } => write_table(),
        What {
            day: Some(taps), ..
        } => with_own_socket(|socket| day(socket, taps as usize)),
        What { speed: true, .. } => with_own_socket(|socket| speed(socket, json)),
        What {
            idle: Some(tilld), ..
        } => with_own_socket(|socket| idle(socket, &tilld, json)),
        What { .. } => run_rigs(cli.rigs, cli.hands),
    }
}

fn run_rigs(mut files: Vec<PathBuf>, has_hands: bool) -> anyhow::Result<ExitCode> {
    if files.is_empty() {
        files = Rig::files()?;
    }
    let mut all_well = true;
    for file in files {
        let rig = Rig::load(&file)?;
        if let Some(reason) = rig.missing() {
            println!("{}: SKIPPED, {reason}", rig.name);
            continue;
        }
        all_well &= run(&file, &rig, has_hands)?;
    }
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(file: &Path, rig: &Rig, has_hands: bool) -> anyhow::Result<bool> {
    match &rig.reader {
        RigReader::VirtualPcsc {
            friendly_name,
            driver,
        } => match std::env::var_os(SOCKET) {
            Some(socket) => {
                let hands = VirtualPcscHands::start(Path::new(&socket), friendly_name, *driver)?;
                let config = ReaderConfig::Pcsc {
                    only: Some(friendly_name.clone()),
                };
                Ok(run_all(rig, config, Box::new(hands)))
            }
            None => run_with_own_socket(file),
        },
        RigReader::VirtualSerial { device } => {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("reader");
            let hands = VirtualSerialHands::start(&path, *device)?;
            Ok(run_all(rig, device.config(path), Box::new(hands)))
        }
        RigReader::VirtualKeyboard {} => {
            let program = std::env::current_exe()?;
            let printed = Machine::find()?.run(&program, &[(RIG_INSIDE, file)])?;
            print!("{printed}");
            Ok(printed.lines().any(|line| line == machine::WELL))
        }
        RigReader::Pcsc { .. } | RigReader::Serial { .. } | RigReader::Keyboard { .. } => {
            let config = rig.config().context("a real rig has a configuration")?;
            if has_hands {
                return Ok(run_all(rig, config, Box::new(Person)));
            }
            let mut bench = Bench::open(config, Box::new(Person));
            println!(
                "{}: SKIPPED but for the first behaviour, --hands runs the others",
                rig.name
            );
            Ok(BEHAVIOURS
                .first()
                .is_some_and(|first| report(rig, first.sentence, first.run(&mut bench))))
        }
    }
}

fn run_all(rig: &Rig, config: ReaderConfig, hands: Box<dyn Hands>) -> bool {
    let mut bench = Bench::open(config, hands);
    // After a failure nobody knows what still lies on the reader.
    BEHAVIOURS
        .iter()
        .all(|each| report(rig, each.sentence, each.run(&mut bench)))
}

fn report(rig: &Rig, sentence: &str, outcome: anyhow::Result<Able>) -> bool {
    let name = &rig.name;
    match outcome {
        Ok(Able::Yes) => println!("{name}: ok, {sentence}"),
        Ok(Able::No(reason)) => println!("{name}: not possible here ({reason}), {sentence}"),
        Err(error) => {
            println!("{name}: FAILED, {sentence}: {error:#}");
            return false;
        }
    }
    true
}

/// Runs the rig of a virtual machine, as its only program.
fn inside() -> anyhow::Result<()> {
    if typed_speed::is_asked_for() {
        return typed_speed::measure_inside();
    }
    let rig = Rig::load(&Path::new("/").join(RIG_INSIDE))?;
    let hands = KeyboardHands::start()?;
    let config = hands.config();
    ensure!(run_all(&rig, config, Box::new(hands)), "a behaviour failed");
    Ok(())
}

/// Runs every virtual rig and writes the README's table.
fn write_table() -> anyhow::Result<ExitCode> {
    let mut rigs = Vec::new();
    for file in Rig::files()? {
        let rig = Rig::load(&file)?;
        if rig.is_virtual() {
            println!("{}", rig.name);
            let output = Command::new(std::env::current_exe()?).arg(&file).output()?;
            let printed = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "{printed}");
            let outcomes = table::outcomes(&rig.name, &printed);
            rigs.push((rig.name, outcomes));
        }
    }
    let readme = table::readme();
    let text = fs::read_to_string(&readme)?;
    fs::write(&readme, table::with_table(&text, &rigs)?)?;
    println!("{} written", readme.display());
    Ok(ExitCode::SUCCESS)
}

/// So many customers at four readers.
fn day(socket: &Path, taps: usize) -> anyhow::Result<()> {
    let each = taps / Station::FOUR.len();
    let seen = stations::serve(&Station::FOUR, socket, each, |name, taps| {
        println!("{name:8} {taps:6} taps so far");
    })?;
    for seen in seen {
        println!("{seen}");
    }
    Ok(())
}

/// One reader after the other, so that none waits for another's turn.
fn speed(socket: &Path, file: Option<&Path>) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    for station in Station::EACH {
        for seen in stations::serve(&[station], socket, SPEED_TAPS, |_, _| {})? {
            println!("{seen}");
            let own = stations::at(&seen.own_times, 50).as_micros();
            let whole = stations::at(&seen.waits, 50).as_micros();
            figures.push((format!("reader_{}_own_ms", seen.name), own));
            figures.push((format!("reader_{}_tap_ms", seen.name), whole));
        }
    }
    let typed = typed_speed::measure()?;
    println!(
        "keyboard {:6} taps; Enter to event {} in the middle, {} of a hundred, in a computed machine",
        typed.len(),
        stations::milliseconds(stations::at(&typed, 50)),
        stations::milliseconds(stations::at(&typed, 99)),
    );
    let own = stations::at(&typed, 50).as_micros();
    figures.push(("reader_keyboard_own_ms".to_owned(), own));
    let cost = proof_cost::measure()?;
    println!(
        "a proof costs the till {}.{:03} times the cipher work in it",
        cost / 1000,
        cost % 1000
    );
    figures.push(("proof_cost_ratio".to_owned(), cost));
    write_figures(file, &figures)
}

fn idle(socket: &Path, tilld: &Path, file: Option<&Path>) -> anyhow::Result<()> {
    let hundredths = idle::measure(tilld, socket)?;
    println!(
        "idle with four readers: {}.{:02} % of a core",
        hundredths / 100,
        hundredths % 100
    );
    write_figures(
        file,
        &[("readers_idle_cpu_bp".to_owned(), u128::from(hundredths))],
    )
}

/// Writes figures that are given in thousandths.
fn write_figures(file: Option<&Path>, figures: &[(String, u128)]) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let lines: Vec<String> = figures
        .iter()
        .map(|(key, figure)| format!("  \"{key}\": {}.{:03}", figure / 1000, figure % 1000))
        .collect();
    fs::write(file, format!("{{\n{}\n}}\n", lines.join(",\n")))
        .with_context(|| format!("write {}", file.display()))
}

/// The PC/SC library reads its socket's name once, from the environment that a process starts with:
/// without one, this program runs itself again.
fn with_own_socket(run: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    if let Some(socket) = std::env::var_os(SOCKET) {
        run(Path::new(&socket))?;
        return Ok(ExitCode::SUCCESS);
    }
    let dir = tempfile::tempdir()?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(SOCKET, dir.path().join("pcscd.comm"))
        .status()
        .context("run the bench with a socket of its own")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// As [`with_own_socket`], for one rig of several.
fn run_with_own_socket(file: &Path) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir()?;
    let status = Command::new(std::env::current_exe()?)
        .arg(file)
        .env(SOCKET, dir.path().join("pcscd.comm"))
        .status()
        .context("run the bench with a socket of its own")?;
    Ok(status.success())
}

const SOCKET: &str = "PCSCLITE_CSOCK_NAME";
/// Where the rig lies in a virtual machine.
const RIG_INSIDE: &str = "rig.toml";
const SPEED_TAPS: usize = 50;
const EXIT_CODES: &str = "Exit codes: 0 all is well or was skipped, 1 something failed, 2 the command \
    line cannot be understood";
