//! Who is at the other end of the socket, and whether they may command the till.
//!
//! The socket's mode (0660) already keeps others out. The daemon asks the kernel again, so that a
//! socket whose mode or directory was changed by hand still does not let everybody sell.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tokio::net::UnixStream;

/// The process that connected, as the kernel saw it at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group and its supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel who connected (`SO_PEERCRED` and `SO_PEERGROUPS`).
    ///
    /// The groups come from the socket and not from the user database: in a private user
    /// namespace (`PrivateUsers=` of systemd) the daemon sees technicians without their uid, but
    /// its own group keeps its number.
    pub fn of(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let mut groups = supplementary_groups(stream.as_raw_fd())?;
        groups.push(credentials.gid());
        Ok(Peer {
            uid: credentials.uid(),
            groups,
        })
    }

    /// Whether the peer may command a daemon that runs as `daemon_uid` and whose socket belongs
    /// to `socket_gid`: root may, the daemon's own user may, and members of the socket's group.
    pub fn may_command(&self, daemon_uid: u32, socket_gid: u32) -> bool {
        // The overflow group stands for every group that a user namespace does not map.
        let by_group = socket_gid != OVERFLOW_GID && self.groups.contains(&socket_gid);
        self.uid == ROOT_UID || self.uid == daemon_uid || by_group
    }
}

fn supplementary_groups(socket: RawFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; USUAL_GROUPS];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the pointer and `bytes` describe the vector's initialised elements, which live
        // across the call; the kernel writes at most `bytes` bytes and stores how many it needs.
        let outcome = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if outcome == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

const ROOT_UID: u32 = 0;
/// What the kernel shows for a group outside the user namespace (`/proc/sys/kernel/overflowgid`).
const OVERFLOW_GID: u32 = 65534;
/// Room for the groups of nearly everyone; more are asked for when needed.
const USUAL_GROUPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: u32 = 990;
    const TECHNICIANS: u32 = 980;

    #[track_caller]
    fn check(uid: u32, groups: &[u32], socket_gid: u32, expect: bool) {
        let peer = Peer {
            uid,
            groups: groups.to_vec(),
        };
        assert_eq!(
            peer.may_command(DAEMON, socket_gid),
            expect,
            "{peer:?} at {socket_gid}"
        );
    }

    #[test]
    fn root_the_daemon_and_its_group_may_command() {
        check(0, &[0], TECHNICIANS, true);
        check(DAEMON, &[DAEMON], TECHNICIANS, true);
        check(1000, &[1000, TECHNICIANS], TECHNICIANS, true);
        check(1000, &[TECHNICIANS], TECHNICIANS, true);
    }

    #[test]
    fn others_may_not() {
        check(1000, &[1000], TECHNICIANS, false);
        check(1000, &[0, 4, 27], TECHNICIANS, false);
        check(65534, &[65534], TECHNICIANS, false);
        check(1000, &[65534], 65534, false);
    }

    #[tokio::test]
    async fn the_kernel_tells_who_connected() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Peer::of(&near).unwrap();
        let own = near.peer_cred().unwrap();
        assert_eq!(peer.uid, own.uid());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))
            .unwrap();
        let mut expect: Vec<u32> = line
            .split_whitespace()
            .map(|gid| gid.parse().unwrap())
            .collect();
        expect.push(own.gid());
        assert_eq!(peer.groups, expect);
        assert!(peer.may_command(own.uid(), OVERFLOW_GID));
    }
}
