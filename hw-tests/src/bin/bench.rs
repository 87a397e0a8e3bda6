//! Runs the behaviours over rigs: `bench [--hands] RIG.toml…`, without files over all rigs;
//! `bench --write-table` runs the virtual ones and writes what they showed into the README.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use hw_tests::behaviour::{BEHAVIOURS, Bench};
use hw_tests::hands::{Able, Hands, Person, VirtualPcscHands, VirtualSerialHands};
use hw_tests::rig::{Rig, RigReader};
use hw_tests::table;
use till_readers::ReaderConfig;

fn main() -> anyhow::Result<ExitCode> {
    let mut files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files == [Path::new("--write-table")] {
        return write_table();
    }
    let has_hands = files.iter().any(|file| file == Path::new("--hands"));
    files.retain(|file| file != Path::new("--hands"));
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
        RigReader::VirtualPcsc { friendly_name } => match std::env::var_os(SOCKET) {
            Some(socket) => {
                let hands = VirtualPcscHands::start(Path::new(&socket), friendly_name)?;
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
        RigReader::Pcsc { .. } | RigReader::Serial { .. } => {
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

/// The PC/SC library reads its socket's name once, from the environment that a process starts with.
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
