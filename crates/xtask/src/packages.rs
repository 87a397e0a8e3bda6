//! The Debian packages that are needed, installed by name when they are missing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
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

/// What measuring needs: a machine for the readers that type, and what is in `FOR_DEMO`.
pub(crate) const FOR_BENCH: &[&str] = &[
    "gcc",
    "libc6-dev",
    "libpcsclite-dev",
    "pcscd",
    "pkgconf",
    "qemu-system-x86",
    "util-linux",
];

/// What the checks need on top: a browser for the cashier page, systemd's own judge of units, and the
/// vsmartcard project's driver of a virtual reader.
pub(crate) const FOR_TEST: &[&str] = &[
    "chromium",
    "gcc",
    "git",
    "libc6-dev",
    "libpcsclite-dev",
    "pcscd",
    "pkgconf",
    "python3-pycryptodome",
    "qemu-system-x86",
    "systemd",
    "util-linux",
    "vsmartcard-vpcd",
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

/// Puts a kernel with its modules into the directory, for the virtual machine in which readers that
/// type are tried. It is only unpacked: a kernel that is installed would change how this machine
/// starts.
pub(crate) fn fetch_kernel(directory: &Path, no_install: bool) -> anyhow::Result<()> {
    let Some(installed) = installed(&[KERNEL])? else {
        return Ok(());
    };
    if directory.join("boot").is_dir() || missing(&[KERNEL], &installed).is_empty() {
        return Ok(());
    }
    ensure!(
        !no_install,
        "there is no kernel in {}; run cargo xtask test once without --no-install",
        directory.display()
    );
    if newest_kernel()?.is_none() {
        apt_get(&["update", "--quiet"])?;
    }
    let package = newest_kernel()?.with_context(|| format!("no package {KERNEL} is to be had"))?;
    println!("Fetching the Debian package {package}");
    // Beside it until it is whole.
    let unfinished = directory.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet", &package]);
    let status = download.current_dir(&unfinished).status();
    let status = status.context("failed to run apt-get")?;
    ensure!(status.success(), "apt-get ended with {status}");
    let files: Vec<_> = fs::read_dir(&unfinished)?.collect::<Result<_, _>>()?;
    for file in files {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(file.path()).arg(&unfinished);
        let status = extract.status().context("failed to run dpkg-deb")?;
        ensure!(status.success(), "dpkg-deb ended with {status}");
    }
    fs::rename(&unfinished, directory)?;
    Ok(())
}

/// The kernel that the package of all such kernels depends on now.
fn newest_kernel() -> anyhow::Result<Option<String>> {
    let said = Command::new("apt-cache")
        .args(["depends", KERNEL])
        .stderr(Stdio::null())
        .output()
        .context("failed to run apt-cache")?;
    Ok(dependency(&String::from_utf8_lossy(&said.stdout)))
}

fn dependency(said: &str) -> Option<String> {
    let name = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))?;
    name.starts_with("linux-image-").then(|| name.to_owned())
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

/// A kernel for virtual machines: small, and with virtual input devices.
const KERNEL: &str = "linux-image-cloud-amd64";

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
    fn the_kernel_is_the_one_that_the_package_of_kernels_names() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        let name = Some("linux-image-6.1.0-56-cloud-amd64".to_owned());
        assert_eq!(dependency(said), name);
        assert_eq!(dependency(""), None);
    }

    #[test]
    fn a_kernel_that_was_fetched_is_not_fetched_again() {
        let directory = std::env::temp_dir().join(format!("kernel-{}", std::process::id()));
        fs::create_dir_all(directory.join("boot")).unwrap();
        let fetched = fetch_kernel(&directory, true);
        let missing = fetch_kernel(&directory.join("elsewhere"), true);
        fs::remove_dir_all(&directory).unwrap();
        fetched.unwrap();
        let installed = installed(&[KERNEL]).unwrap();
        let is_there = installed.is_none_or(|said| super::missing(&[KERNEL], &said).is_empty());
        assert_eq!(missing.is_ok(), is_there);
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        require(&["dpkg"], true).unwrap();
    }
}
