//! The programs of the rig, built once with the cargo that runs the tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hw_tests::pcscd::Driver;

/// Where the built programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The till's daemon.
    pub(crate) tilld: PathBuf,
    /// The technician's command.
    pub(crate) tillctl: PathBuf,
    /// The central server.
    pub(crate) hubd: PathBuf,
    /// The card gateway simulator.
    pub(crate) gateway: PathBuf,
    /// The virtual reader's own driver for pcscd.
    driver: PathBuf,
}

impl Programs {
    /// The virtual reader's driver for pcscd.
    pub(crate) fn driver(&self, driver: Driver) -> PathBuf {
        match driver {
            Driver::Own => self.driver.clone(),
            Driver::Stock => driver.library().unwrap(),
        }
    }
}

/// The programs; the first caller builds them.
pub(crate) fn programs() -> &'static Programs {
    static BUILT: OnceLock<Option<Programs>> = OnceLock::new();
    // Kept also when it fails, so that not every test builds in vain.
    let built = BUILT.get_or_init(build).as_ref();
    built.expect("cargo, which says above why it cannot build the programs")
}

/// The workspace's directory.
pub(crate) fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

fn build() -> Option<Programs> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let packages = ["hubd", "tillctl", "hub-payments"];
    let mut command = Command::new(cargo);
    // The tests run with a description of their package. Build scripts that look there (that of
    // ring does) would take the change for a reason to run again, at every run of the tests.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["build", "--quiet", "--message-format=json"])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    if !output.status.success() {
        return None;
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |name| {
        let mut executables = messages.lines().filter_map(executable);
        executables.find(|path| path.file_name().is_some_and(|file| file == name))
    };
    Some(Programs {
        tilld: env!("CARGO_BIN_EXE_tilld").into(),
        tillctl: program("tillctl")?,
        hubd: program("hubd")?,
        gateway: program("card-gateway-simulator")?,
        driver: Driver::Own.library().ok()?,
    })
}

fn describes_a_package(variable: &str) -> bool {
    let beginnings = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ];
    beginnings
        .iter()
        .any(|beginning| variable.starts_with(beginning))
}

fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    Some(message["executable"].as_str()?.into())
}
