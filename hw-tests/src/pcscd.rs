//! A pcscd of one's own: the real daemon in a private mount namespace, with virtual readers.
//!
//! Any number of them run side by side, without touching the machine's own pcscd. What
//! [`PrivatePcscd::start`] does, by hand (as root; without root `unshare -Urm` in the place of
//! `unshare -m`):
//!
//! ```text
//! mkdir -p DIR/readers              # pcscd parses every file in it: nothing else may lie there
//! cat > DIR/readers/virtual-pcd <<END
//! FRIENDLYNAME "Virtual PCD"
//! DEVICENAME /dev/null:0x8C7B
//! LIBPATH /absolute/path/to/target/debug/libvirtual_pcd.so
//! CHANNELID 0x8C7B
//! END
//! unshare -m sh -c '
//!   mount -t tmpfs tmpfs /run/pcscd 2>/dev/null ||
//!     { mount -t tmpfs tmpfs /run && mkdir /run/pcscd; }
//!   echo $$ > DIR/pid
//!   exec pcscd --foreground -c DIR/readers' &
//! export PCSCLITE_CSOCK_NAME=/proc/$(cat DIR/pid)/root/run/pcscd/pcscd.comm
//! ```
//!
//! Only the mount namespace is private, so the chips' ports (here 35963 for `Virtual PCD 00 00`
//! and 35964 for `Virtual PCD 00 01`) are on the host's own loopback. Clients must have
//! `PCSCLITE_CSOCK_NAME` in their environment before their first PC/SC call, because the library
//! reads it once; that is why [`PrivatePcscd::socket`] is a link that stays the same over a restart.
//! pcscd is ready when a connection to the socket succeeds. End it with SIGTERM.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde::Deserialize;
use tempfile::TempDir;

/// A running (or stopped) pcscd with virtual readers; dropping it ends the daemon.
#[derive(Debug)]
pub struct PrivatePcscd {
    dir: TempDir,
    socket: PathBuf,
    running: Option<Running>,
}

/// One entry of the reader configuration: two slots on two neighbouring ports.
#[derive(Debug, Clone)]
pub struct VirtualReader {
    /// What the reader is called; pcscd appends its own numbers, as in `Virtual PCD 00 01`.
    pub friendly_name: String,
    /// The driver, `libvirtual_pcd.so`.
    pub driver: PathBuf,
    /// The port of slot 0; slot 1 has the next one.
    pub first_port: u16,
    /// Whose behaviour it has; the stock driver knows [`Model::Plain`] only.
    pub model: Model,
}

/// What a virtual reader makes of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Model {
    /// It hands them to the chip as they are.
    #[default]
    Plain,
    /// As an ACR122U does: the maker's own are for the reader, and by one of them frames pass.
    Acr122u,
}

#[derive(Debug)]
struct Running {
    /// Holds the namespace, and ends the daemon when this process ends in whatever way.
    keeper: Child,
    daemon: Pid,
}

impl PrivatePcscd {
    /// Starts pcscd with one reader called `Virtual PCD`, whose slots listen on `first_port` and
    /// the port after it.
    pub fn start(driver: &Path, first_port: u16) -> anyhow::Result<PrivatePcscd> {
        let friendly_name = "Virtual PCD".to_owned();
        Self::start_with(&[VirtualReader {
            friendly_name,
            driver: driver.to_owned(),
            first_port,
            model: Model::Plain,
        }])
    }

    /// Starts pcscd with the given readers.
    pub fn start_with(readers: &[VirtualReader]) -> anyhow::Result<PrivatePcscd> {
        let dir = TempDir::with_prefix("pcscd-").context("make a directory for pcscd")?;
        let socket = dir.path().join("pcscd.comm");
        Self::start_in(dir, socket, readers)
    }

    /// Starts pcscd and makes it known under `socket`, which must not exist.
    pub fn start_at(socket: &Path, readers: &[VirtualReader]) -> anyhow::Result<PrivatePcscd> {
        let dir = TempDir::with_prefix("pcscd-").context("make a directory for pcscd")?;
        Self::start_in(dir, socket.to_owned(), readers)
    }

    fn start_in(
        dir: TempDir,
        socket: PathBuf,
        readers: &[VirtualReader],
    ) -> anyhow::Result<PrivatePcscd> {
        let mut pcscd = PrivatePcscd {
            dir,
            socket,
            running: None,
        };
        pcscd.restart_with(readers)?;
        Ok(pcscd)
    }

    /// As [`PrivatePcscd::restart`], with other readers.
    pub fn restart_with(&mut self, readers: &[VirtualReader]) -> anyhow::Result<()> {
        let config = self.dir.path().join("readers");
        if config.exists() {
            self.stop();
            fs::remove_dir_all(&config)?;
        }
        fs::create_dir(&config)?;
        for (number, reader) in readers.iter().enumerate() {
            // pcscd would end without a word about the reason.
            ensure!(
                reader.driver.is_file(),
                "no reader driver at {}",
                reader.driver.display()
            );
            fs::write(config.join(format!("reader-{number}")), reader.entry())?;
        }
        self.restart()
    }

    /// What clients need in `PCSCLITE_CSOCK_NAME`; the same over all restarts.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running
            .as_ref()
            .and_then(|running| u32::try_from(running.daemon.as_raw()).ok())
    }

    /// Ends the daemon as a service manager does.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Ends the daemon as a crash does.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops the daemon in its tracks: its socket stays, and nothing answers on it.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Undoes [`PrivatePcscd::freeze`].
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Starts the daemon again (after ending one that still runs), in a fresh namespace, so that
    /// nothing is left of the one before.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop();
        let running = self.launch()?;
        let keeper = running.keeper.id();
        self.running = Some(running);
        let inside = format!("/proc/{keeper}/root/run/pcscd/pcscd.comm");
        self.wait_until_ready(Path::new(&inside))?;
        let fresh = self.dir.path().join("pcscd.comm.new");
        symlink(&inside, &fresh).context("link the socket")?;
        fs::rename(&fresh, &self.socket).context("link the socket")
    }

    fn launch(&self) -> anyhow::Result<Running> {
        let pid_file = self.dir.path().join("pid");
        // A missing file is what is wanted.
        let _ = fs::remove_file(&pid_file);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())?;
        let namespace = if geteuid().is_root() { "-m" } else { "-Urm" };
        let keeper = Command::new("unshare")
            .args([namespace, "sh", "-c", KEEPER, "sh"])
            .arg(self.dir.path().join("readers"))
            .arg(&pid_file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("run unshare (package util-linux)")?;
        let mut keeper = keeper;
        match wait_for_pid(&pid_file, &mut keeper) {
            Ok(daemon) => Ok(Running { keeper, daemon }),
            Err(error) => {
                end_keeper(keeper);
                Err(error.context(self.log_text()))
            }
        }
    }

    fn wait_until_ready(&mut self, socket: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME;
        while UnixStream::connect(socket).is_err() {
            let alive = self
                .running
                .as_ref()
                .is_some_and(|running| is_alive(running.daemon));
            if !alive || Instant::now() > deadline {
                self.stop();
                bail!(
                    "pcscd did not start (package pcscd); it said: {}",
                    self.log_text()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("pcscd does not run")?;
        kill(running.daemon, signal).context("signal pcscd")
    }

    fn end(&mut self, signal: Signal) {
        let Some(running) = self.running.take() else {
            return;
        };
        // They fail only when it has already ended. One that is frozen must wake up to end.
        let _ = kill(running.daemon, signal);
        let _ = kill(running.daemon, Signal::SIGCONT);
        let deadline = Instant::now() + STOP_TIME;
        while is_alive(running.daemon) {
            if Instant::now() > deadline {
                let _ = kill(running.daemon, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
        end_keeper(running.keeper);
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for PrivatePcscd {
    fn drop(&mut self) {
        self.stop();
        // It lies in the directory that goes now, or the caller has already removed it.
        let _ = fs::remove_file(&self.socket);
    }
}

impl VirtualReader {
    fn entry(&self) -> String {
        let VirtualReader {
            friendly_name,
            driver,
            first_port,
            model,
        } = self;
        let driver = driver.display();
        let model = match model {
            Model::Plain => "",
            Model::Acr122u => "acr122u:",
        };
        format!(
            "FRIENDLYNAME \"{friendly_name}\"\nDEVICENAME /dev/null:{model}{first_port:#06X}\n\
             LIBPATH {driver}\nCHANNELID {first_port:#06X}\n"
        )
        .replace("0X", "0x")
    }
}

/// Whose driver the virtual reader has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// That of `virtual-pcd/`: on the loopback alone, at once, and never waiting without a limit.
    #[default]
    Own,
    /// Debian's build of the vsmartcard project's. It listens on every interface of the machine,
    /// and sees a tap at pcscd's next look, 400 ms later at the latest.
    Stock,
}

impl Driver {
    /// The library that pcscd loads; the own one is built.
    pub fn library(self) -> anyhow::Result<PathBuf> {
        match self {
            Driver::Own => build_driver(),
            Driver::Stock => stock_driver(Path::new(STOCK_DRIVER)),
        }
    }
}

fn stock_driver(library: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        library.is_file(),
        "there is no {}; install it: apt-get install vsmartcard-vpcd",
        library.display()
    );
    Ok(library.to_owned())
}

/// Builds the virtual reader's driver with the cargo that runs the tests, and says where it is.
///
/// It has a target directory of its own: in the shared one a test would wait for every other build.
pub fn build_driver() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "-p",
            "virtual-pcd",
            "--message-format=json",
        ])
        .args(["--target-dir", "target/virtual-pcd"])
        .current_dir(&workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(
        output.status.success(),
        "the virtual reader's driver could not be built"
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .rev()
        .find_map(driver_in)
        .context("cargo built no libvirtual_pcd.so")
}

/// A pair of neighbouring ports that are free now, for a reader's two slots.
pub fn free_ports() -> io::Result<u16> {
    loop {
        let first = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let port = first.local_addr()?.port();
        let Some(next) = port.checked_add(1) else {
            continue;
        };
        if std::net::TcpListener::bind(("127.0.0.1", next)).is_ok() {
            return Ok(port);
        }
    }
}

fn driver_in(message: &str) -> Option<PathBuf> {
    let (before, _) = message.split_once("libvirtual_pcd.so\"")?;
    let (_, directory) = before.rsplit_once('"')?;
    Some(Path::new(directory).join("libvirtual_pcd.so"))
}

fn wait_for_pid(pid_file: &Path, keeper: &mut Child) -> anyhow::Result<Pid> {
    let deadline = Instant::now() + START_TIME;
    loop {
        let text = fs::read_to_string(pid_file).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            return Ok(Pid::from_raw(pid));
        }
        if let Some(status) = keeper.try_wait()? {
            bail!("no private mount namespace (unshare ended with {status})");
        }
        ensure!(
            Instant::now() < deadline,
            "pcscd did not start in {START_TIME:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn end_keeper(mut keeper: Child) {
    // Its standard input is what keeps it.
    drop(keeper.stdin.take());
    let _ = keeper.wait();
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Runs pcscd until standard input ends. Arguments: the reader configuration, the file for the pid.
/// A daemon of this namespace alone must not find the machine's own socket or pid file.
const KEEPER: &str = r#"
mount -t tmpfs tmpfs /run/pcscd 2>/dev/null || { mount -t tmpfs tmpfs /run && mkdir /run/pcscd; } || exit 1
pcscd --foreground -c "$1" </dev/null &
echo $! > "$2"
cat > /dev/null
kill $! 2>/dev/null
wait
"#;

/// Where the package `vsmartcard-vpcd` puts it.
const STOCK_DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
const START_TIME: Duration = Duration::from_secs(10);
const STOP_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_as_the_stock_driver_wants_it() {
        let reader = |model| VirtualReader {
            friendly_name: "Virtual PCD".to_owned(),
            driver: "/lib/driver.so".into(),
            first_port: 35963,
            model,
        };
        assert_eq!(
            reader(Model::Plain).entry(),
            "FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:0x8C7B\n\
             LIBPATH /lib/driver.so\nCHANNELID 0x8C7B\n"
        );
        let acr122u = reader(Model::Acr122u).entry();
        assert!(acr122u.contains("DEVICENAME /dev/null:acr122u:0x8C7B\n"));
    }

    #[test]
    fn two_daemons_run_side_by_side_and_each_survives_a_restart() {
        let driver = build_driver().unwrap();
        let mut one = PrivatePcscd::start(&driver, free_ports().unwrap()).unwrap();
        let two = PrivatePcscd::start(&driver, free_ports().unwrap()).unwrap();
        assert_ne!(one.pid(), two.pid());
        let before = one.pid();
        UnixStream::connect(one.socket()).unwrap();
        one.kill();
        assert!(UnixStream::connect(one.socket()).is_err());
        UnixStream::connect(two.socket()).unwrap();
        one.restart().unwrap();
        assert_ne!(one.pid(), before);
        UnixStream::connect(one.socket()).unwrap();
    }

    #[test]
    fn a_missing_driver_is_named() {
        let error = stock_driver(Path::new("/nowhere.so")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no /nowhere.so; install it: apt-get install vsmartcard-vpcd"
        );
        let error = PrivatePcscd::start(Path::new("/nowhere.so"), 40000).unwrap_err();
        assert_eq!(error.to_string(), "no reader driver at /nowhere.so");
    }
}
