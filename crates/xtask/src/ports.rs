//! Whether the demo's ports are free, and who has them if not.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process;

use anyhow::{Context, bail};

use crate::arguments::Ports;

/// Fails when a port is taken, and says by whom and what to do.
pub(crate) fn require_free(ports: Ports) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for (port, purpose, flag) in ports.list() {
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            taken.push(complaint(port, purpose, flag, &error));
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    bail!(taken.join("\n"))
}

/// Ports that are free now, below those that the OS gives to outgoing connections.
pub(crate) fn choose_free() -> anyhow::Result<Ports> {
    // Where the search begins differs by process, so that two of them rarely meet.
    let offset = u16::try_from(process::id() % 1000)?;
    let first = SEARCHED.start + offset * NEEDED;
    (first..SEARCHED.end)
        .chain(SEARCHED)
        .step_by(usize::from(NEEDED))
        .map(|first| Ports {
            hub: first,
            page: first + 1,
            gateway: first + 2,
            readers: first + 3,
        })
        .find(|ports| require_free(*ports).is_ok())
        .context("no free ports on 127.0.0.1")
}

fn complaint(port: u16, purpose: &str, flag: &str, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!(
            "port {port} for {purpose} cannot be used: {error}; choose another by {flag}"
        );
    }
    let by = owner(port).map_or_else(String::new, |owner| format!(" by {owner}"));
    format!("port {port} for {purpose} is taken{by}; choose another by {flag}")
}

/// The process that listens on a port, if this user may know.
fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| inode_in(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .map(|process| process.path())
        .filter(|process| is_number(process))
        .find(|process| has_open(process, &socket))
        .map(|process| description(&process))
}

/// The inode of the socket that listens on a port, from the kernel's table: the second column is
/// the address (port in hexadecimal), the fourth the state (0A listens), the tenth the inode.
fn inode_in(table: &str, port: u16) -> Option<u64> {
    let ending = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, "0A", _, _, _, _, _, inode, ..] = columns[..] else {
            return None;
        };
        local.ends_with(&ending).then(|| inode.parse().ok())?
    })
}

fn is_number(process: &Path) -> bool {
    let name = process.file_name().unwrap_or_default();
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn has_open(process: &Path, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.as_os_str() == socket)
}

fn description(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let pid = process.file_name().unwrap_or_default().to_string_lossy();
    format!("{} (process {pid})", name.trim_end())
}

const SEARCHED: Range<u16> = 20000..32000;
const NEEDED: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_owner_and_the_way_out() {
        let mut ports = choose_free().unwrap();
        require_free(ports).unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        ports.hub = held.local_addr().unwrap().port();
        let complaint = require_free(ports).unwrap_err().to_string();
        let process = process::id();
        let (hub, name) = (ports.hub, fs::read_to_string("/proc/self/comm").unwrap());
        assert_eq!(
            complaint,
            format!(
                "port {hub} for the hub is taken by {} (process {process}); \
                 choose another by --hub-port",
                name.trim_end()
            )
        );
    }

    #[test]
    fn only_a_listening_socket_counts() {
        // As the kernel prints it: port 8080 listens, port 8081 has a connection.
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
             1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(inode_in(table, 8080), Some(4711));
        assert_eq!(inode_in(table, 8081), None);
        assert_eq!(inode_in(table, 8082), None);
    }
}
