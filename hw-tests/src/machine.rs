//! A small virtual machine with a kernel that has input devices, for readers that only a kernel can
//! simulate: where tests run, `/dev/uhid` and `/dev/input` are seldom to be had.
//!
//! It is started without any privilege: `qemu-system-x86_64` computes it (KVM is not asked for: it
//! does not work everywhere, and seconds are enough), the kernel is Debian's for clouds, and the one
//! program in it is this very program with the libraries that it needs. By hand:
//!
//! ```text
//! apt-get download linux-image-6.1.0-56-cloud-amd64   # what linux-image-cloud-amd64 depends on
//! dpkg-deb --extract linux-image-*.deb target/cloud-kernel
//! qemu-system-x86_64 -accel tcg -machine q35 -m 512 -nodefaults -no-reboot -display none \
//!     -serial file:console -serial stdio \
//!     -kernel target/cloud-kernel/boot/vmlinuz-* -initrd ARCHIVE -append "console=ttyS0 panic=-1"
//! ```
//!
//! What the program prints comes out on the second serial port, what the kernel says on the first.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;
use nix::unistd::{dup2_stderr, dup2_stdout};

use crate::archive::Archive;

/// A kernel and its modules.
#[derive(Debug, Clone)]
pub struct Machine {
    kernel: PathBuf,
    modules: PathBuf,
}

impl Machine {
    /// Takes the kernel that `cargo xtask test` has fetched, else one that is installed.
    pub fn find() -> anyhow::Result<Machine> {
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).context("no target directory")?;
        let fetched = target.join("cloud-kernel");
        for root in [fetched.as_path(), Path::new("/")] {
            if let Some(machine) = Machine::find_in(root)? {
                return Ok(machine);
            }
        }
        bail!(
            "no kernel for a virtual machine in {} nor in /boot; fetch it: cargo xtask test, or: \
             apt-get download, see the top of hw-tests/src/machine.rs",
            fetched.display()
        );
    }

    fn find_in(root: &Path) -> anyhow::Result<Option<Machine>> {
        let Ok(entries) = fs::read_dir(root.join("boot")) else {
            return Ok(None);
        };
        for entry in entries {
            let kernel = entry?.path();
            let name = kernel.file_name().unwrap_or_default().to_string_lossy();
            let Some(version) = name.strip_prefix("vmlinuz-") else {
                continue;
            };
            let modules = root.join("lib/modules").join(version).join("kernel");
            if version.contains("-cloud-") && modules.is_dir() {
                return Ok(Some(Machine { kernel, modules }));
            }
        }
        Ok(None)
    }

    /// Runs a program as the only one, with files beside it; what it prints.
    pub fn run(&self, program: &Path, files: &[(&str, &Path)]) -> anyhow::Result<String> {
        let dir = tempfile::tempdir()?;
        let archive = dir.path().join("archive");
        fs::write(&archive, self.archive(program, files)?)?;
        let console = dir.path().join("console");
        let output = Command::new("timeout")
            .args(["--kill-after=5", LONGEST_RUN, "qemu-system-x86_64"])
            .args(["-accel", "tcg", "-machine", "q35", "-m", "512"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&archive)
            .args(["-append", "console=ttyS0 loglevel=4 panic=-1"])
            .stdin(Stdio::null())
            .output()
            .context("run qemu-system-x86_64 (package qemu-system-x86)")?;
        let said = fs::read(&console).unwrap_or_default();
        ensure!(
            output.status.success(),
            "the virtual machine ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&said)
        );
        let printed = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        ensure!(
            !printed.is_empty(),
            "the virtual machine printed nothing; its kernel said: {}",
            String::from_utf8_lossy(&said)
        );
        Ok(printed)
    }

    fn archive(&self, program: &Path, files: &[(&str, &Path)]) -> anyhow::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for directory in ["dev", "sys", "tmp"] {
            archive.add_directory(directory);
        }
        // The kernel itself opens it, before anything is mounted.
        archive.add_device("dev/console", (5, 1));
        archive.add_file("init", &fs::read(program)?);
        for library in libraries(program)? {
            let contents = fs::read(&library).with_context(|| format!("read {library}"))?;
            archive.add_file(&library, &contents);
        }
        for (name, file) in files {
            archive.add_file(name, &fs::read(file)?);
        }
        for (name, place) in MODULES {
            let module = self.modules.join(place).join(name);
            archive.add_file(&format!("modules/{name}"), &module_bytes(&module)?);
        }
        Ok(archive.into_bytes())
    }
}

/// A module as the kernel loads it; newer packages have them compressed.
fn module_bytes(module: &Path) -> anyhow::Result<Vec<u8>> {
    let plain = module.with_extension("ko");
    if plain.is_file() {
        return Ok(fs::read(plain)?);
    }
    let compressed = module.with_extension("ko.xz");
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(&compressed)
        .output()
        .context("run xz (package xz-utils)")?;
    ensure!(
        output.status.success(),
        "no kernel module at {} nor {}",
        plain.display(),
        compressed.display()
    );
    Ok(output.stdout)
}

/// The libraries that a program is linked with, and what loads them.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("run ldd (package libc-bin)")?;
    ensure!(
        output.status.success(),
        "ldd does not understand {}",
        program.display()
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(path.to_owned())
    };
    Ok(said.lines().filter_map(path).collect())
}

/// Whether this program is the only one of a virtual machine.
pub fn is_inside() -> bool {
    std::process::id() == 1
}

/// Readies the machine that this program is alone in, runs, and switches the machine off.
pub fn run_inside(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    mount_all()?;
    let port = File::options().write(true).open("/dev/ttyS1")?;
    dup2_stdout(&port)?;
    dup2_stderr(&port)?;
    let outcome = load_modules().and_then(|()| run());
    match &outcome {
        Ok(()) => println!("{WELL}"),
        Err(error) => println!("{error:#}"),
    }
    tcdrain(std::io::stdout().as_fd())?;
    reboot(RebootMode::RB_POWER_OFF)?;
    outcome
}

/// The last line that [`run_inside`] prints when nothing has failed.
pub const WELL: &str = "the machine is switched off, all well";

fn mount_all() -> anyhow::Result<()> {
    for (kind, place) in [("devtmpfs", "/dev"), ("sysfs", "/sys")] {
        let options: Option<&str> = None;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("mount {place}"))?;
    }
    Ok(())
}

fn load_modules() -> anyhow::Result<()> {
    for (name, _) in MODULES {
        let file = File::open(format!("/modules/{name}"))?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("load {name}"))?;
    }
    Ok(())
}

/// In the order of what needs what.
const MODULES: [(&str, &str); 4] = [
    ("hid", "drivers/hid"),
    ("hid-generic", "drivers/hid"),
    ("uhid", "drivers/hid"),
    ("evdev", "drivers/input"),
];
/// Seconds; far more than it takes on a machine with nothing else to do.
const LONGEST_RUN: &str = "400";
