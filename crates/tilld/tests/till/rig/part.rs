//! A process of the rig: its log in a file, its end with the rig.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

/// A started process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Part {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Part {
    /// Starts a program that writes what it says to `log`, after what is there. It ends with this
    /// process, however that ends.
    pub(crate) fn start(command: &Command, log: &Path) -> Part {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let name = Path::new(command.get_program()).file_name().unwrap();
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "SIGKILL"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            tied.env(key, value.unwrap_or_default());
        }
        let child = tied
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Part {
            child,
            name: name.to_string_lossy().into_owned(),
            log: log.to_owned(),
        }
    }

    /// Waits until it is ready; fails at once when it ends before that.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) {
        eventually(&format!("{} to be ready", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}\n{}", self.name, self.said());
            }
            is_ready().then_some(())
        });
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a service manager does.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let name = self.name.clone();
        eventually(&format!("{name} to end"), || self.child.try_wait().unwrap())
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// All that it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn end(&mut self) {
        // Both fail only when it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of a log, with its name.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.get(lines.len().saturating_sub(TAIL_LINES)..);
    format!(
        "--- the end of {}\n{}",
        log.display(),
        end.unwrap_or_default().join("\n")
    )
}

const TAIL_LINES: usize = 40;
