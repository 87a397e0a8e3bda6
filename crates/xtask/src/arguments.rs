//! What was asked for on the command line.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// One of the project's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Say how to use it.
    Help,
    /// Start everything, to try or to check it.
    Demo(Demo),
    /// Lay a chip on the demo's reader.
    Tap(Tap),
    /// Check everything there is to check.
    Test(Test),
    /// Measure the till.
    Bench(Bench),
    /// Run seeded worlds; the words are the simulation's own.
    Simulate(Vec<String>),
    /// Put several tills and a hub under fire.
    Soak(Soak),
}

/// How the demo is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Demo {
    /// Play the lunch and end, in the place of waiting for people.
    pub(crate) script: bool,
    /// Forget what an earlier demo sold.
    pub(crate) fresh: bool,
    /// Refuse to install packages.
    pub(crate) no_install: bool,
    /// Build as for a real till.
    pub(crate) release: bool,
    /// Where the parts listen.
    pub(crate) ports: Ports,
    /// Where everything of the demo lies; `target/demo` if not said.
    pub(crate) directory: Option<PathBuf>,
}

/// Where the parts of a demo listen, all on the loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// The hub.
    pub(crate) hub: u16,
    /// The cashier page.
    pub(crate) page: u16,
    /// The card gateway simulator.
    pub(crate) gateway: u16,
    /// The reader's first slot; the second has the next port.
    pub(crate) readers: u16,
}

/// A chip to lay on the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
    /// The chip number as it was typed, in upper case.
    pub(crate) number: String,
    /// The same as bytes.
    pub(crate) uid: Vec<u8>,
    /// How long it lies there.
    pub(crate) seconds: u16,
    /// The slot's port.
    pub(crate) port: u16,
}

/// How the checks are to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Test {
    /// Refuse to install packages.
    pub(crate) no_install: bool,
}

/// How the measurement is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bench {
    /// A file for the figures.
    pub(crate) json: Option<PathBuf>,
    /// Refuse to install packages.
    pub(crate) no_install: bool,
}

/// How long tills and hub are to be under fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Soak {
    /// How long.
    pub(crate) minutes: u64,
    /// The dice of an earlier run.
    pub(crate) seed: Option<u64>,
    /// Refuse to install packages.
    pub(crate) no_install: bool,
}

/// The text of `cargo xtask help`.
pub(crate) const HELP: &str = "\
The canteen till's own commands. All of them install the Debian packages that are missing (they say
which, and ask sudo if need be) and build what they run.

  cargo xtask demo        Start a demo canteen: card gateway simulator, hub, till, and a virtual chip
                          reader behind a real pcscd. Prints where to look and how to tap. Ctrl-C ends.
    --script              Play a short lunch on fresh data, tell each step, and end; fails on any
                          difference.
    --fresh               Forget what the demo sold before.
    --release             Build with optimisation.
    --hub-port N          Where the hub listens              (default 8080)
    --page-port N         Where the cashier page is served   (default 8070)
    --gateway-port N      Where the card gateway listens     (default 8090)
    --readers-port N      The reader's slots: N and N + 1    (default 35963)
    --directory DIR       Where everything of the demo lies  (default target/demo)

  cargo xtask tap CHIP    Lay a chip on the demo's reader, say 72BF9961, and take it away again.
    --seconds N           How long it lies there             (default 2)
    --port N              The slot's port                    (default 35963)

  cargo xtask test        Check everything: format, lints, documents, all tests without a skip, the
                          build for readers without an operating system, the systemd units, and the
                          demo's lunch. The last line is the sum: N passed, N failed.

  cargo xtask bench       Measure the till against its targets, on a quiet machine.
    --json FILE           Write the figures to a file as well.

  cargo xtask soak        Three real tills and a hub sell under load while lines are cut and processes
                          killed at random; fails unless all sides agree to the øre afterwards, and
                          no account was ever overspent by more than is allowed.
    --minutes N           How long                           (default 10)
    --seed N              Throw the dice of an earlier run

  cargo xtask simulate    Run seeded worlds of tills, hub, card gateway, lines, clocks and disks with faults,
                          checked after every step; say what was injected. A seed that fails is told as
                          the shortest story that can be found.
    --seeds N             How many                           (default 1000)
    --from S              The first one                      (default 1)
    --bug NAME            Put a bug in by hand, which must be found
    --tell                Tell the first seed step by step

  cargo xtask help        This text.

demo, test, bench and soak know --no-install: refuse to install packages, and name those missing.

Exit codes: 0 all is well, 1 something failed, 2 the command line cannot be understood, 130 stopped by
Ctrl-C.
";

/// Reads a command line, without the program's own name.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> anyhow::Result<Command> {
    let mut words = Words::new(words);
    let Some(command) = words.next() else {
        return Ok(Command::Help);
    };
    match command.as_str() {
        "demo" => parse_demo(words),
        "tap" => parse_tap(words),
        "test" => parse_test(words),
        "bench" => parse_bench(words),
        "simulate" => Ok(Command::Simulate(words.words.collect())),
        "soak" => parse_soak(words),
        "help" | "--help" | "-h" => Ok(Command::Help),
        other => bail!("unknown command {other:?}"),
    }
}

fn parse_demo(mut words: Words) -> anyhow::Result<Command> {
    let mut demo = Demo::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--script" => demo.script = true,
            "--fresh" => demo.fresh = true,
            "--no-install" => demo.no_install = true,
            "--release" => demo.release = true,
            "--hub-port" => demo.ports.hub = words.port(&word)?,
            "--page-port" => demo.ports.page = words.port(&word)?,
            "--gateway-port" => demo.ports.gateway = words.port(&word)?,
            "--readers-port" => demo.ports.readers = words.port(&word)?,
            "--directory" => demo.directory = Some(words.value(&word)?),
            "--help" | "-h" => return Ok(Command::Help),
            other => bail!("demo does not know {other:?}"),
        }
    }
    demo.ports.check()?;
    Ok(Command::Demo(demo))
}

fn parse_tap(mut words: Words) -> anyhow::Result<Command> {
    let mut number = None;
    let mut seconds = 2;
    let mut port = Ports::default().readers;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => seconds = words.value(&word)?,
            "--port" => port = words.port(&word)?,
            "--help" | "-h" => return Ok(Command::Help),
            option if option.starts_with('-') => bail!("tap does not know {option:?}"),
            _ if number.is_some() => bail!("tap takes one chip, not {word:?} as well"),
            _ => number = Some(word.to_ascii_uppercase()),
        }
    }
    let number = number.context("tap needs a chip, such as 72BF9961")?;
    let uid = bytes_in(&number)?;
    Ok(Command::Tap(Tap {
        number,
        uid,
        seconds,
        port,
    }))
}

fn parse_test(mut words: Words) -> anyhow::Result<Command> {
    let mut test = Test::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-install" => test.no_install = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => bail!("test does not know {other:?}"),
        }
    }
    Ok(Command::Test(test))
}

fn parse_bench(mut words: Words) -> anyhow::Result<Command> {
    let mut bench = Bench::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => bench.json = Some(words.value(&word)?),
            "--no-install" => bench.no_install = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => bail!("bench does not know {other:?}"),
        }
    }
    Ok(Command::Bench(bench))
}

fn parse_soak(mut words: Words) -> anyhow::Result<Command> {
    let mut soak = Soak {
        minutes: 10,
        seed: None,
        no_install: false,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minutes" => soak.minutes = words.value(&word)?,
            "--seed" => soak.seed = Some(words.value(&word)?),
            "--no-install" => soak.no_install = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => bail!("soak does not know {other:?}"),
        }
    }
    ensure!(
        (1..=24 * 60).contains(&soak.minutes),
        "--minutes must be from 1 to 1440"
    );
    Ok(Command::Soak(soak))
}

impl Default for Ports {
    fn default() -> Ports {
        Ports {
            hub: 8080,
            page: 8070,
            gateway: 8090,
            readers: 35963,
        }
    }
}

impl Ports {
    /// Every port with what it is for and the flag that moves it.
    pub(crate) fn list(self) -> [(u16, &'static str, &'static str); 5] {
        [
            (self.hub, "the hub", "--hub-port"),
            (self.page, "the cashier page", "--page-port"),
            (self.gateway, "the card gateway", "--gateway-port"),
            (self.readers, "the reader", "--readers-port"),
            (
                self.readers.saturating_add(1),
                "the reader's second slot",
                "--readers-port",
            ),
        ]
    }

    fn check(self) -> anyhow::Result<()> {
        ensure!(
            self.readers < u16::MAX,
            "--readers-port must leave room for the port after it"
        );
        let mut taken: Vec<(u16, &str)> = Vec::new();
        for (port, purpose, flag) in self.list() {
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == port) {
                bail!("{purpose} and {other} cannot both have port {port}; choose one by {flag}");
            }
            taken.push((port, purpose));
        }
        Ok(())
    }
}

/// The words of a command line, with `--key=value` as two of them.
struct Words {
    words: std::vec::IntoIter<String>,
}

impl Words {
    fn new(words: impl Iterator<Item = String>) -> Words {
        let mut split = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if key.starts_with("--") => {
                    split.extend([key.to_owned(), value.to_owned()]);
                }
                Some(_) | None => split.push(word),
            }
        }
        Words {
            words: split.into_iter(),
        }
    }

    fn next(&mut self) -> Option<String> {
        self.words.next()
    }

    fn value<T>(&mut self, flag: &str) -> anyhow::Result<T>
    where
        T: FromStr<Err: Display>,
    {
        let Some(word) = self.words.next() else {
            bail!("{flag} needs a value");
        };
        word.parse()
            .map_err(|error| anyhow::anyhow!("{flag} cannot be {word:?}: {error}"))
    }

    fn port(&mut self, flag: &str) -> anyhow::Result<u16> {
        let port = self.value(flag)?;
        ensure!(port != 0, "{flag} must be 1 or more");
        Ok(port)
    }
}

fn bytes_in(number: &str) -> anyhow::Result<Vec<u8>> {
    let digits = number.as_bytes();
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    ensure!(
        is_hex && [8, 14, 20].contains(&digits.len()),
        "a chip has 8, 14 or 20 hexadecimal digits, such as 72BF9961, not {number:?}"
    );
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair)?;
            Ok(u8::from_str_radix(pair, 16)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(line: &str, expected: Command) {
        assert_eq!(parsed(line), Ok(expected), "{line}");
    }

    #[track_caller]
    fn check_refused(line: &str, reason: &str) {
        assert_eq!(parsed(line), Err(reason.to_owned()), "{line}");
    }

    #[test]
    fn every_command_is_understood() {
        check("", Command::Help);
        check("help", Command::Help);
        check("demo --help", Command::Help);
        check("demo", Command::Demo(Demo::default()));
        check("test", Command::Test(Test::default()));
        check(
            "test --no-install",
            Command::Test(Test { no_install: true }),
        );
        check("bench", Command::Bench(Bench::default()));
        let json = Some(PathBuf::from("figures.json"));
        let bench = Bench {
            json,
            no_install: false,
        };
        check("bench --json=figures.json", Command::Bench(bench));
        let soak = Soak {
            minutes: 10,
            seed: Some(7),
            no_install: false,
        };
        check("soak --seed 7", Command::Soak(soak));
    }

    #[test]
    fn a_demo_takes_its_ports_in_both_ways_of_writing() {
        let ports = Ports {
            hub: 9080,
            page: 9070,
            gateway: 9090,
            readers: 36000,
        };
        let demo = Demo {
            script: true,
            ports,
            directory: Some("elsewhere".into()),
            ..Demo::default()
        };
        check(
            "demo --script --hub-port 9080 --page-port=9070 --gateway-port 9090 \
             --readers-port=36000 --directory elsewhere",
            Command::Demo(demo),
        );
    }

    #[test]
    fn a_tap_reads_the_chip_number() {
        let tap = Tap {
            number: "72BF9961".to_owned(),
            uid: vec![0x72, 0xBF, 0x99, 0x61],
            seconds: 5,
            port: 35964,
        };
        check("tap 72bf9961 --seconds 5 --port 35964", Command::Tap(tap));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_the_reason() {
        check_refused("dmeo", "unknown command \"dmeo\"");
        check_refused("demo --skript", "demo does not know \"--skript\"");
        check_refused("test all", "test does not know \"all\"");
        check_refused("bench --json", "--json needs a value");
        check_refused("soak --minutes 0", "--minutes must be from 1 to 1440");
        check_refused("demo --hub-port 0", "--hub-port must be 1 or more");
        check_refused(
            "demo --hub-port x",
            "--hub-port cannot be \"x\": invalid digit found in string",
        );
        check_refused(
            "demo --hub-port 8070",
            "the cashier page and the hub cannot both have port 8070; choose one by --page-port",
        );
        check_refused(
            "demo --hub-port 35964",
            "the reader's second slot and the hub cannot both have port 35964; \
             choose one by --readers-port",
        );
        check_refused(
            "demo --readers-port 65535",
            "--readers-port must leave room for the port after it",
        );
        check_refused("tap", "tap needs a chip, such as 72BF9961");
        check_refused(
            "tap 72BF9961 A10A8925",
            "tap takes one chip, not \"A10A8925\" as well",
        );
        for number in ["72BF996", "72BF996X", "72BF9961A1"] {
            let reason = format!(
                "a chip has 8, 14 or 20 hexadecimal digits, such as 72BF9961, not {number:?}"
            );
            check_refused(&format!("tap {number}"), &reason);
        }
    }
}
