//! The source tree, and building from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// The programs of a demo, built.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The till.
    pub(crate) tilld: PathBuf,
    /// The technician's command.
    pub(crate) tillctl: PathBuf,
    /// The hub.
    pub(crate) hubd: PathBuf,
    /// The card gateway simulator.
    pub(crate) gateway: PathBuf,
    /// The virtual reader's driver.
    pub(crate) driver: PathBuf,
}

/// The top of the source tree.
pub(crate) fn root() -> PathBuf {
    // Cargo says where the tree is now; the other was true when this was built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let top = here.ancestors().nth(2);
    top.unwrap_or(&here).to_owned()
}

/// The cargo that runs this, to run in the source tree.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // `cargo run` describes this very package in the environment. Build scripts that look there
    // would run again each time that cargo is run from here and by hand in turn.
    for (name, _) in std::env::vars_os() {
        if describes_a_package(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn describes_a_package(variable: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|start| variable.starts_with(start))
}

/// The directory for all that is made and can be made again.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let metadata = cargo()
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout)
        .context("failed to read what cargo says of the workspace")?;
    let target = metadata["target_directory"].as_str();
    Ok(target.context("cargo names no target directory")?.into())
}

/// Builds all that a demo needs.
pub(crate) fn build(release: bool) -> anyhow::Result<Programs> {
    let mut command = cargo();
    command.args(["build", "--message-format=json-render-diagnostics"]);
    for package in ["tilld", "tillctl", "hubd", "hub-payments", "virtual-pcd"] {
        command.args(["--package", package]);
    }
    if release {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    ensure!(
        output.status.success(),
        "failed to build the demo's programs"
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let files = files_in(&messages);
    let find = |name| find(&files, name).with_context(|| format!("cargo built no {name}"));
    Ok(Programs {
        tilld: find("tilld")?,
        tillctl: find("tillctl")?,
        hubd: find("hubd")?,
        gateway: find("card-gateway-simulator")?,
        driver: find("libvirtual_pcd.so")?,
    })
}

/// The files that cargo says it made, or found to be fresh.
fn files_in(messages: &str) -> Vec<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| Some(message["filenames"].as_array()?.clone()))
        .flatten()
        .filter_map(|file| Some(PathBuf::from(file.as_str()?)))
        .collect()
}

fn find(files: &[PathBuf], name: &str) -> Option<PathBuf> {
    let is_named = |file: &&PathBuf| Path::file_name(file).is_some_and(|file| file == name);
    files.iter().find(is_named).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_the_tree_has_the_workspace() {
        assert!(root().join("crates/xtask/Cargo.toml").is_file());
        assert!(root().join("config/till.toml").is_file());
    }

    #[test]
    fn only_the_description_of_this_package_is_kept_from_cargo() {
        assert!(describes_a_package("CARGO_MANIFEST_DIR"));
        assert!(describes_a_package("CARGO_PKG_VERSION_PRE"));
        assert!(!describes_a_package("CARGO_HOME"));
        assert!(!describes_a_package("CARGO_TARGET_DIR"));
    }

    #[test]
    fn built_files_are_found_by_name() {
        let messages = r#"
{"reason":"compiler-artifact","filenames":["/t/debug/deps/libtilld.rlib"],"executable":null}
{"reason":"compiler-artifact","filenames":["/t/debug/tilld"],"executable":"/t/debug/tilld"}
{"reason":"build-finished","success":true}
"#;
        let files = files_in(messages);
        assert_eq!(find(&files, "tilld"), Some("/t/debug/tilld".into()));
        assert_eq!(find(&files, "hubd"), None);
    }
}
