//! What a till takes of the processor while nobody is there, with four readers that have nothing to
//! tell.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::device::DeviceKind;
use crate::hands::VirtualPcscHands;
use crate::pcscd::Driver;
use crate::pty_reader::SimulatedReader;

/// Runs this `tilld` for a while; says how much of one core it took, in hundredths of a percent.
pub fn measure(tilld: &Path, socket: &Path) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir()?;
    let _pcsc = VirtualPcscHands::start(socket, FRIENDLY_NAME, Driver::Own)?;
    let mut readers = Vec::new();
    for (name, kind) in SERIAL {
        readers.push(SimulatedReader::start(&dir.path().join(name), kind)?);
    }
    let settings = dir.path().join("till.toml");
    fs::write(&settings, text(dir.path()))?;
    let log = fs::File::create(dir.path().join("log"))?;
    let till = Command::new(tilld)
        .arg("--config")
        .arg(&settings)
        .env("PCSCLITE_CSOCK_NAME", socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("run {}", tilld.display()))?;
    let mut till = Running(till);
    thread::sleep(START_TIME);
    let ready = fs::read_to_string(dir.path().join("log"))?;
    let count = ready.matches("Reader ready").count();
    // The virtual PC/SC reader has two slots.
    ensure!(
        count == SERIAL.len() + 2,
        "{count} readers are ready: {ready}"
    );
    let (begin, before) = (Instant::now(), processor_time(&mut till)?);
    thread::sleep(MEASURED_TIME);
    let (time, after) = (begin.elapsed(), processor_time(&mut till)?);
    let hundredths = u128::from(after - before) * 10_000 * 10 / time.as_millis();
    Ok(u64::try_from(hundredths)?)
}

/// Ends the till with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only when the till has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(dir: &Path) -> String {
    let dir = dir.display();
    let lines: String = SERIAL
        .iter()
        .map(|(name, _)| format!("{name} = [\"{dir}/{name}\"]\n"))
        .collect();
    // Nobody listens on port 9: the till keeps trying, as one without its line does.
    format!(
        "[till]\nid = \"idle\"\nstate_dir = \"{dir}/state\"\nballast_mib = 1\ncontrol_socket = \"{dir}/tilld.sock\"\n\
         [hub]\nurl = \"http://127.0.0.1:9\"\n[page]\nlisten = \"127.0.0.1:0\"\n\
         [readers]\npcsc_only = \"{FRIENDLY_NAME}\"\n{lines}"
    )
}

/// Hundredths of a second that it has taken of the processor, for itself and for the system.
fn processor_time(till: &mut Running) -> anyhow::Result<u64> {
    ensure!(till.0.try_wait()?.is_none(), "the till has ended");
    let stat = fs::read_to_string(format!("/proc/{}/stat", till.0.id()))?;
    ticks(&stat).context("the kernel does not say what the till took")
}

/// Fields 14 and 15 of proc(5), counted behind the program's name, which may have spaces. A tick
/// is a hundredth of a second on every Linux that people use.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Each is called like its key in the till's settings.
const SERIAL: [(&str, DeviceKind); 3] = [
    ("serial", DeviceKind::Own),
    ("pn532", DeviceKind::Pn532),
    ("twn4", DeviceKind::Twn4Plain),
];
const FRIENDLY_NAME: &str = "Virtual PICC";
const START_TIME: Duration = Duration::from_secs(4);
const MEASURED_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_program_took() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194304 900 0 1 0 25 17 3 4 20 0 7 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("17 (a) S 1"), None);
    }
}
