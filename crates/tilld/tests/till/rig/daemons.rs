//! The programs of a canteen, started and stopped.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::http::Host;
use super::part::Part;
use super::programs::{programs, workspace};
use super::settings::address;
use super::{CARD, Site};

impl Site {
    pub(super) fn start_gateway(&mut self) {
        let mut command = Command::new(&programs().gateway);
        command
            .args(["--listen", &address(self.ports.gateway)])
            .arg("--state")
            .arg(self.path("gateway.json"))
            .arg("--secret-file")
            .arg(self.path("gateway.key"))
            .args(["--agreement", CARD]);
        let mut part = Part::start(&command, &self.path("gateway.log"));
        let gateway = self.gateway();
        part.wait_until(|| gateway.is_there("/simulator/charges"));
        self.gateway = Some(part);
    }

    pub(super) fn load_demo_data(&self) {
        let output = Command::new(&programs().hubd)
            .arg("--config")
            .arg(self.path("hub.toml"))
            .arg("load")
            .arg(workspace().join("config/demo.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "hubd load: {output:?}");
    }

    /// Starts the hub.
    pub(crate) fn start_hub(&mut self) {
        let mut command = Command::new(&programs().hubd);
        command.arg("--config").arg(self.path("hub.toml"));
        let mut part = Part::start(&command, &self.path("hubd.log"));
        let hub = Host::new(self.ports.hub);
        part.wait_until(|| hub.is_there("/readyz"));
        self.hub = Some(part);
    }

    /// Stops the hub as a service manager does.
    pub(crate) fn stop_hub(&mut self) {
        let status = self.hub.take().unwrap().stop();
        assert!(status.success(), "hubd ended with {status}");
    }

    /// Runs the hub's program beside the hub, and to its end.
    pub(crate) fn run_hubd(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&programs().hubd);
        command.arg("--config").arg(self.path("hub.toml"));
        command.args(words).output().unwrap()
    }

    /// Ends the hub as a crash does.
    pub(crate) fn kill_hub(&mut self) {
        self.hub.take().unwrap().kill();
    }

    /// Starts the till and does not wait until it is ready.
    pub(crate) fn begin_till(&mut self) {
        let part = Part::start(&self.till_command(), &self.path("tilld.log"));
        self.till = Some(part);
    }

    /// Starts the till.
    pub(crate) fn start_till(&mut self) {
        let mut part = Part::start(&self.till_command(), &self.path("tilld.log"));
        let (page, socket) = (Host::new(self.ports.page), self.control_socket());
        part.wait_until(|| UnixStream::connect(&socket).is_ok() && page.is_there("/livez"));
        self.till = Some(part);
    }

    /// The till as it is started.
    pub(crate) fn till_command(&self) -> Command {
        let mut command = self.bare_till_command();
        command
            .arg("--config")
            .arg(self.path("till.toml"))
            .env("PCSCLITE_CSOCK_NAME", self.pcscd.socket());
        command
    }

    /// The program alone, or in a mount namespace of its own with a small disk for its state.
    fn bare_till_command(&self) -> Command {
        let tilld = &programs().tilld;
        let Some(size) = self.disk_mib else {
            return Command::new(tilld);
        };
        let state = self.path("till");
        fs::create_dir_all(&state).unwrap();
        let mount = format!("mount -t tmpfs -o size={size}m,mode=700 tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        let namespace = if nix::unistd::geteuid().is_root() {
            "-m"
        } else {
            "-Urm"
        };
        command.args([namespace, "sh", "-c", &mount]);
        command.arg(state).arg(tilld);
        command
    }

    /// The till's state directory as the till sees it.
    pub(crate) fn till_state(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.till_pid()));
        let state = self.path("till");
        root.join(state.strip_prefix("/").unwrap())
    }

    /// Stops the till as a service manager does.
    pub(crate) fn stop_till(&mut self) {
        let status = self.till.take().unwrap().stop();
        assert!(status.success(), "tilld ended with {status}");
    }

    /// Ends the till as a power cut does, but for the disk.
    pub(crate) fn kill_till(&mut self) {
        self.till.take().unwrap().kill();
    }

    /// The till's process id.
    pub(crate) fn till_pid(&self) -> u32 {
        self.till.as_ref().unwrap().pid()
    }

    /// What the till has logged, over all its starts.
    pub(crate) fn till_log(&self) -> String {
        self.till.as_ref().unwrap().said()
    }
}
