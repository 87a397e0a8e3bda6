//! A running part of the demo: a process with a log, that never outlives its keeper.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::signal;

/// A started process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts a process that writes what it says to `log`, after what is there.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
    ) -> anyhow::Result<Part> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        signal::tie_to_this_process(command);
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        Ok(Part {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of its log if it runs no more.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(self.obituary(status)),
        }
    }

    /// Waits until `is_ready` says so; fails when the part ends first, or the time is over.
    pub(crate) fn wait_until_ready(
        &mut self,
        limit: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !is_ready() {
            self.check()?;
            if signal::caught() {
                bail!("stopped while {} was starting", self.name);
            }
            if Instant::now() > deadline {
                let tail = self.tail();
                bail!("{} was not ready in {limit:?}\n{tail}", self.name);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends it as a service manager does: asks, waits, and insists.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        signal::kill(&self.child);
        // Fails only when it was waited for before.
        let _ = self.child.wait();
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        signal::terminate(&self.child);
        let deadline = Instant::now() + STOP_TIME;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!(
                    "{} did not end in {STOP_TIME:?}, so it was killed",
                    self.name
                );
                signal::kill(&self.child);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn obituary(&self, status: ExitStatus) -> String {
        format!("{} has ended ({status})\n{}", self.name, self.tail())
    }

    /// The end of its log, with its name before each line.
    pub(crate) fn tail(&self) -> String {
        tail(self.name, &self.log)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a log, with a name before each.
pub(crate) fn tail(name: &str, log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    let mut tail = format!("the end of {}:", log.display());
    for line in lines.get(start..).unwrap_or_default() {
        tail.push_str(&format!("\n  {name} | {line}"));
    }
    tail
}

const STOP_TIME: Duration = Duration::from_secs(15);
const TAIL_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn log(test: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory.join("log")
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn is_running(pid: u32) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return false;
        };
        // A zombie has ended; only nobody has asked for its exit code yet.
        !stat.contains(") Z ")
    }

    #[track_caller]
    fn check_ends(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while is_running(pid) {
            assert!(Instant::now() < deadline, "process {pid} is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn stopping_ends_a_part_with_all_that_it_started() {
        let log = log("stop");
        let part = Part::start("shell", &mut shell("sleep 600 & echo $!; wait"), &log).unwrap();
        let pid = part.pid();
        let mut part = part;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        part.wait_until_ready(Duration::from_secs(5), || said().ends_with('\n'))
            .unwrap();
        let grandchild = said().trim().parse().unwrap();
        assert!(is_running(pid) && is_running(grandchild));
        part.stop();
        check_ends(pid);
        check_ends(grandchild);
    }

    #[test]
    fn a_part_that_ends_early_is_reported_with_the_end_of_its_log() {
        let log = log("early");
        let mut part = Part::start("shell", &mut shell("echo no such file; exit 3"), &log).unwrap();
        let error = part
            .wait_until_ready(Duration::from_secs(5), || false)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("shell has ended (exit status: 3)"),
            "{error}"
        );
        assert!(error.ends_with("\n  shell | no such file"), "{error}");
    }

    #[test]
    fn a_part_that_is_never_ready_is_given_up() {
        let log = log("never");
        let mut part = Part::start("shell", &mut shell("exec sleep 600"), &log).unwrap();
        let error = part.wait_until_ready(Duration::from_millis(50), || false);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("shell was not ready in 50ms"), "{error}");
    }

    /// Run by the test below in a process of its own, which is then killed.
    #[test]
    fn keeper() {
        if std::env::var_os(KEEPER).is_none() {
            return;
        }
        let part = Part::start("sleep", &mut shell("exec sleep 600"), &log("keeper")).unwrap();
        println!("part {}", part.pid());
        thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn a_part_ends_when_its_keeper_is_killed() {
        let mut keeper = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "part::tests::keeper", "--nocapture"])
            .env(KEEPER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(keeper.stdout.take().unwrap());
        let pid = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split("part ").nth(1)?.parse().ok())
            .unwrap();
        assert!(is_running(pid));
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        check_ends(pid);
    }

    const KEEPER: &str = "XTASK_TEST_KEEPER";
}
