//! The Debian packages that are needed, installed by name when they are missing.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};

/// What building and running the demo needs.
pub(crate) const FOR_DEMO: &[&str] = &[
    "gcc",
    "libc6-dev",
    "libpcsclite-dev",
    "pcscd",
    "pkgconf",
    "util-linux",
];

/// What the checks need on top: a browser for the cashier page, and systemd's own judge of units.
pub(crate) const FOR_TEST: &[&str] = &[
    "chromium",
    "gcc",
    "git",
    "libc6-dev",
    "libpcsclite-dev",
    "pcscd",
    "pkgconf",
    "python3-pycryptodome",
    "systemd",
    "util-linux",
];

/// Installs those that are missing; with `no_install` names them and fails.
pub(crate) fn require(packages: &[&str], no_install: bool) -> anyhow::Result<()> {
    let Some(installed) = installed(packages)? else {
        println!(
            "This is no Debian: {} are taken to be there.",
            packages.join(", ")
        );
        return Ok(());
    };
    let missing = missing(packages, &installed);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if no_install {
        bail!("these packages are missing: {names}\ninstall them: apt-get install {names}");
    }
    println!("Installing Debian packages: {names}");
    install(&missing).with_context(|| format!("failed to install {names}"))
}

/// What dpkg says of them; `None` where there is no dpkg.
fn installed(packages: &[&str]) -> anyhow::Result<Option<String>> {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        // It complains of those it has never heard of, which is no error here.
        .stderr(Stdio::null())
        .output();
    match query {
        Ok(Output { stdout, .. }) => Ok(Some(String::from_utf8_lossy(&stdout).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("failed to run dpkg-query"),
    }
}

fn missing<'a>(packages: &[&'a str], installed: &str) -> Vec<&'a str> {
    let is_installed = |package: &str| {
        installed
            .lines()
            .any(|line| line.split_once(' ') == Some((package, "installed")))
    };
    let packages = packages.iter().copied();
    packages.filter(|package| !is_installed(package)).collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    apt_get(&["update", "--quiet"])?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    apt_get(&[&install, packages].concat())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = if is_root()? {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    let status = command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(arguments)
        .status()
        .context("failed to run apt-get as root; is there sudo?")?;
    ensure!(status.success(), "apt-get ended with {status}");
    Ok(())
}

/// Whether this user is root.
pub(crate) fn is_root() -> anyhow::Result<bool> {
    let id = Command::new("id").arg("-u").output();
    let id = id.context("failed to run id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_unless_dpkg_says_installed() {
        let said = "gcc installed\npcscd config-files\nlibpcsclite-dev installed\n";
        let wanted = ["gcc", "pcscd", "libpcsclite-dev", "pkgconf"];
        assert_eq!(missing(&wanted, said), ["pcscd", "pkgconf"]);
    }

    #[test]
    fn what_is_missing_is_named_where_nothing_may_be_installed() {
        let error = require(&["dpkg", "no-such-package-of-this-name"], true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "these packages are missing: no-such-package-of-this-name\n\
             install them: apt-get install no-such-package-of-this-name"
        );
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        require(&["dpkg"], true).unwrap();
    }
}
