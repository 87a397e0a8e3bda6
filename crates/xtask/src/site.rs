//! A demo canteen: every part of it running as on a real site, but for the reader's hardware and
//! the card gateway.
//!
//! The reader is a driver (`hw-tests/virtual-pcd`) in a real pcscd. That pcscd runs in a mount
//! namespace of its own, so that it neither disturbs the machine's own pcscd nor is disturbed by
//! it; only `/run/pcscd` is private, and the slots' ports are on the host's loopback.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::arguments::Ports;
use crate::http::Host;
use crate::packages;
use crate::part::Part;
use crate::settings::Settings;
use crate::till::ChipNumber;
use crate::workspace::{self, Programs};

/// A demo canteen, all of it or what was started so far.
#[derive(Debug)]
pub(crate) struct Site {
    programs: Programs,
    directory: PathBuf,
    ports: Ports,
    // In the order in which they are stopped.
    till: Option<Part>,
    hub: Option<Part>,
    gateway: Option<Part>,
    pcscd: Option<Part>,
    /// Held as long as the site stands.
    _lock: File,
}

impl Site {
    /// Makes the directory with the settings of all parts; `fresh` forgets what is there.
    pub(crate) fn lay_out(
        programs: Programs,
        directory: &Path,
        ports: Ports,
        fresh: bool,
    ) -> anyhow::Result<Site> {
        let lock = lock(directory)?;
        if fresh && directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("failed to clear {}", directory.display()))?;
        }
        for part in ["till", "hub", "readers"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let site = Site {
            programs,
            directory: directory.canonicalize()?,
            ports,
            till: None,
            hub: None,
            gateway: None,
            pcscd: None,
            _lock: lock,
        };
        site.check_socket_paths()?;
        site.write_settings()?;
        Ok(site)
    }

    /// Starts every part, each when those that it needs are ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.start_pcscd()?;
        self.start_gateway()?;
        self.load_demo_data()?;
        self.start_hub()?;
        self.start_till()
    }

    /// Stops every part, the till first; dropping a part stops it in order.
    pub(crate) fn stop(&mut self) {
        self.stop_till();
        self.stop_hub();
        drop(self.gateway.take());
        drop(self.pcscd.take());
    }

    /// Fails when a part has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let parts = [
            &mut self.till,
            &mut self.hub,
            &mut self.gateway,
            &mut self.pcscd,
        ];
        parts.into_iter().flatten().try_for_each(Part::check)
    }

    /// The ends of all logs.
    pub(crate) fn tails(&self) -> String {
        let parts = [&self.till, &self.hub, &self.gateway, &self.pcscd];
        let tails: Vec<String> = parts.into_iter().flatten().map(Part::tail).collect();
        tails.join("\n")
    }

    /// Where everything lies.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the parts listen.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// The programs it runs.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The till's control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.directory.join("tilld.sock")
    }

    /// The hub, with the operator's token.
    pub(crate) fn hub(&self) -> Host {
        Host::new(self.ports.hub).with_token(OPERATOR_TOKEN.to_owned())
    }

    /// The card gateway.
    pub(crate) fn gateway(&self) -> Host {
        Host::new(self.ports.gateway)
    }

    /// The account at the hub that a chip pays from.
    pub(crate) fn account(&self, chip: ChipNumber) -> anyhow::Result<i64> {
        let answer = self.hub().json(&format!("/v1/chips?number={}", chip.0))?;
        let account = answer["chips"][0]["account"].as_i64();
        account.with_context(|| format!("no account of {} in {answer}", chip.0))
    }

    /// Starts the reader's pcscd in a fresh mount namespace.
    pub(crate) fn start_pcscd(&mut self) -> anyhow::Result<()> {
        let namespace = if packages::is_root()? { "-m" } else { "-Urm" };
        let mut command = Command::new("unshare");
        command
            .args([namespace, "setpriv", "--pdeathsig", "SIGTERM"])
            .args(["sh", "-c", PCSCD, "sh"])
            .arg(self.directory.join("readers"));
        let mut part = Part::start("pcscd", &mut command, &self.log("pcscd"))?;
        let inside = format!("/proc/{}/root/run/pcscd/pcscd.comm", part.pid());
        part.wait_until_ready(START_TIME, || UnixStream::connect(&inside).is_ok())?;
        // The library reads the path once, so it must stay the same over a restart of pcscd.
        let fresh = self.directory.join("pcscd.comm.new");
        symlink(&inside, &fresh)
            .and_then(|()| fs::rename(&fresh, self.reader_socket()))
            .context("failed to link pcscd's socket")?;
        self.pcscd = Some(part);
        Ok(())
    }

    /// Ends the reader's pcscd as a crash does.
    pub(crate) fn kill_pcscd(&mut self) {
        if let Some(part) = self.pcscd.take() {
            part.kill();
        }
    }

    /// Starts the card gateway simulator.
    pub(crate) fn start_gateway(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.programs.gateway);
        command
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.ports.gateway))
            .arg("--state")
            .arg(self.directory.join("gateway.json"))
            .arg("--secret-file")
            .arg(self.directory.join(GATEWAY_SECRET_FILE))
            .args(["--agreement", "demo-card-1"]);
        let mut part = Part::start("gateway", &mut command, &self.log("gateway"))?;
        let gateway = self.gateway();
        part.wait_until_ready(START_TIME, || gateway.is_there())?;
        self.gateway = Some(part);
        Ok(())
    }

    /// Puts the demo canteen into the hub; what is there already stays.
    pub(crate) fn load_demo_data(&self) -> anyhow::Result<()> {
        let output = Command::new(&self.programs.hubd)
            .arg("--config")
            .arg(self.directory.join("hub.toml"))
            .arg("load")
            .arg(workspace::root().join("config/demo.toml"))
            .current_dir(&self.directory)
            .output()
            .context("failed to run hubd load")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "hubd load failed: {said}");
        Ok(())
    }

    /// Starts the hub.
    pub(crate) fn start_hub(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.programs.hubd);
        command
            .arg("--config")
            .arg(self.directory.join("hub.toml"))
            .current_dir(&self.directory);
        let mut part = Part::start("hubd", &mut command, &self.log("hubd"))?;
        let hub = self.hub();
        part.wait_until_ready(START_TIME, || hub.is_there())?;
        self.hub = Some(part);
        Ok(())
    }

    /// Stops the hub in order.
    pub(crate) fn stop_hub(&mut self) {
        drop(self.hub.take());
    }

    /// Starts the till.
    pub(crate) fn start_till(&mut self) -> anyhow::Result<()> {
        let mut part = Part::start("tilld", &mut self.till_command(), &self.log("tilld"))?;
        let (page, socket) = (Host::new(self.ports.page), self.control_socket());
        part.wait_until_ready(START_TIME, || {
            UnixStream::connect(&socket).is_ok() && page.is_there()
        })?;
        self.till = Some(part);
        Ok(())
    }

    /// The till as it is started, for whoever wants to start it in another way.
    pub(crate) fn till_command(&self) -> Command {
        let mut command = Command::new(&self.programs.tilld);
        command
            .arg("--config")
            .arg(self.directory.join("till.toml"))
            .current_dir(&self.directory)
            .env("PCSCLITE_CSOCK_NAME", self.reader_socket());
        command
    }

    /// Stops the till in order.
    pub(crate) fn stop_till(&mut self) {
        drop(self.till.take());
    }

    /// Ends the till as a power cut does, but for the disk.
    pub(crate) fn kill_till(&mut self) {
        if let Some(part) = self.till.take() {
            part.kill();
        }
    }

    fn log(&self, part: &str) -> PathBuf {
        self.directory.join(format!("{part}.log"))
    }

    fn reader_socket(&self) -> PathBuf {
        self.directory.join("pcscd.comm")
    }

    /// The OS cuts longer ones off, and what then fails says nothing of the reason.
    fn check_socket_paths(&self) -> anyhow::Result<()> {
        for path in [self.control_socket(), self.reader_socket()] {
            let length = path.as_os_str().len();
            ensure!(
                length <= SOCKET_PATH_MAX,
                "{} has {length} characters, {SOCKET_PATH_MAX} are allowed for a socket; \
                 choose a shorter --directory",
                path.display()
            );
        }
        Ok(())
    }

    fn write_settings(&self) -> anyhow::Result<()> {
        self.write("till.toml", &self.till_settings()?)?;
        self.write("hub.toml", &self.hub_settings()?)?;
        self.write("readers/virtual-pcd", &self.reader_settings())?;
        self.write(GATEWAY_SECRET_FILE, GATEWAY_SECRET)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn till_settings(&self) -> anyhow::Result<String> {
        let mut settings = shipped("till.toml")?;
        settings.set_text("till", "state_dir", &self.text_of("till"))?;
        settings.set_text("till", "control_socket", &self.text_of("tilld.sock"))?;
        settings.set_text("hub", "url", &local_url(self.ports.hub))?;
        settings.set_text("hub", "enrolment_code", ENROLMENT_CODE)?;
        settings.set_text("page", "listen", &local_address(self.ports.page))?;
        Ok(settings.text())
    }

    fn hub_settings(&self) -> anyhow::Result<String> {
        let mut settings = shipped("hub.toml")?;
        settings.set_text("hub", "listen", &local_address(self.ports.hub))?;
        settings.set_text("hub", "database", &self.text_of("hub/hub.sqlite"))?;
        settings.set_text("gateway", "url", &local_url(self.ports.gateway))?;
        settings.set_text("gateway", "secret_file", &self.text_of(GATEWAY_SECRET_FILE))?;
        // Shipped without an operator: who that is, each site decides.
        let operator = format!("\n[[operator]]\nname = \"demo\"\ntoken = \"{OPERATOR_TOKEN}\"\n");
        Ok(settings.text() + &operator)
    }

    fn reader_settings(&self) -> String {
        let driver = self.programs.driver.display();
        let port = self.ports.readers;
        format!(
            "FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:0x{port:X}\n\
             LIBPATH {driver}\nCHANNELID 0x{port:X}\n"
        )
    }

    fn text_of(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

fn shipped(name: &str) -> anyhow::Result<Settings> {
    let path = workspace::root().join("config").join(name);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("failed to read {}", path.display()))?;
    Ok(Settings::new(&text))
}

fn local_address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn local_url(port: u16) -> String {
    format!("http://{}", local_address(port))
}

/// Whether a demo runs in a directory.
pub(crate) fn is_open(directory: &Path) -> anyhow::Result<bool> {
    match lock_file(directory)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Two demos in one directory would each take the other's data for their own.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let file = lock_file(directory)?;
    file.try_lock().map_err(io::Error::from).with_context(|| {
        format!(
            "another demo runs in {}; end it, or choose another --directory",
            directory.display()
        )
    })?;
    Ok(file)
}

/// Lies beside the directory, which may be removed and made again.
fn lock_file(directory: &Path) -> anyhow::Result<File> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    Ok(File::create(parent.join(format!(".{name}.lock")))?)
}

/// Becomes pcscd, with the reader configuration given as argument. pcscd parses every file in that
/// directory, so its log must not lie there. It would end at once if it found another pcscd's socket.
const PCSCD: &str = "
mount -t tmpfs tmpfs /run/pcscd 2>/dev/null || { mount -t tmpfs tmpfs /run && mkdir /run/pcscd; } || exit 1
exec pcscd --foreground -c \"$1\"
";

/// What the demo's data has for the till.
const ENROLMENT_CODE: &str = "DEMO-KASSE-1";
/// For the hub's API, shown in the demo's greeting.
pub(crate) const OPERATOR_TOKEN: &str = "demo-operator-token";
const GATEWAY_SECRET_FILE: &str = "gateway.key";
const GATEWAY_SECRET: &str = "demo-gateway-secret\n";

const START_TIME: Duration = Duration::from_secs(30);
/// The room in the address of a unix socket, without the zero byte at its end.
const SOCKET_PATH_MAX: usize = 107;
