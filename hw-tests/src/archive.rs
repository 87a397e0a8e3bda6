//! A file system for a kernel to start with: an archive in cpio's "newc" format (cpio(5), and the
//! kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds an empty directory, with those above it.
    pub fn add_directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.add_directory(above);
        }
        if self.directories.insert(path.to_owned()) {
            self.add(path, DIRECTORY, (0, 0), b"");
        }
    }

    /// Adds a file that may be run, and the directories above it.
    pub fn add_file(&mut self, path: &str, contents: &[u8]) {
        let path = path.trim_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.add_directory(above);
        }
        self.add(path, FILE, (0, 0), contents);
    }

    /// Adds a character device with this major and minor number.
    pub fn add_device(&mut self, path: &str, number: (u32, u32)) {
        self.add(path.trim_matches('/'), DEVICE, number, b"");
    }

    /// The whole archive.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), contents: &[u8]) {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // Inode, mode, owner, group, links, time, size, device, its own number, name, check.
        let fields = [
            0,
            mode,
            0,
            0,
            1,
            0,
            length(contents.len()),
            0,
            0,
            major,
            minor,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend(contents);
        self.fill();
    }

    /// Names and files end at a multiple of 4.
    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_writes() {
        let mut archive = Archive::default();
        archive.add_file("/a/b", b"abc");
        archive.add_file("/a/c", b"");
        let bytes = archive.into_bytes();
        let text = String::from_utf8_lossy(&bytes);
        // From `printf a/b | cpio --create --format newc`, but for inode, owner and time.
        assert!(text.starts_with("07070100000000000041ED"), "{text}");
        assert_eq!(text.matches("070701").count(), 4, "{text}");
        let file = "07070100000000000081ED0000000000000000000000010000000000000003000000000000000000000000000000000000000400000000a/b\0\0\0abc\0";
        assert!(text.contains(file), "{text}");
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
