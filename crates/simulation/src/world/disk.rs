//! Disks: a database's bytes, and what is left of them when power fails during a transaction.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::action::Cut;
use crate::chance::Chance;

/// A database as it lies on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    main: Vec<u8>,
    log: Vec<u8>,
}

/// In which order a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The log, and once that is flushed perhaps the file.
    LogFirst,
    /// The file, and once that is flushed the log.
    FileFirst,
}

impl Image {
    /// What lies at a path now.
    pub(crate) fn take(path: &Path) -> io::Result<Image> {
        Ok(Image {
            main: fs::read(path)?,
            log: match fs::read(log_of(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                other => other?,
            },
        })
    }

    /// Puts it down at a path where nothing is.
    pub(crate) fn put(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.main)?;
        if !self.log.is_empty() {
            fs::write(log_of(path), &self.log)?;
        }
        Ok(())
    }

    /// What is left when power fails between two images. Writes before a flush are on the disk
    /// before any that come after it; between two flushes the disk may take them in any order.
    pub(crate) fn torn(before: &Image, after: &Image, cut: Cut, order: Order) -> Image {
        let (first, second) = match order {
            Order::LogFirst => (&before.log, &before.main),
            Order::FileFirst => (&before.main, &before.log),
        };
        let (first_after, second_after) = match order {
            Order::LogFirst => (&after.log, &after.main),
            Order::FileFirst => (&after.main, &after.log),
        };
        // Which of the two is under way is itself a matter of chance when both change.
        let in_second = second != second_after
            && match cut {
                Cut::Before | Cut::After => false,
                Cut::Torn { at } => at % 2 == 1,
                Cut::Scattered { seed } => seed % 2 == 1,
            };
        let (first, second) = match (cut, in_second) {
            (Cut::Before, _) => (first.clone(), second.clone()),
            (Cut::After, _) => (first_after.clone(), second_after.clone()),
            (_, false) => (mixed(first, first_after, cut), second.clone()),
            (_, true) => (first_after.clone(), mixed(second, second_after, cut)),
        };
        match order {
            Order::LogFirst => Image {
                log: first,
                main: second,
            },
            Order::FileFirst => Image {
                main: first,
                log: second,
            },
        }
    }
}

/// The sectors of one file, some old, some new.
fn mixed(before: &[u8], after: &[u8], cut: Cut) -> Vec<u8> {
    let length = before.len().max(after.len());
    let mut result = Vec::with_capacity(length);
    let dirty: Vec<usize> = (0..length.div_ceil(SECTOR))
        .filter(|at| sector(before, *at) != sector(after, *at))
        .collect();
    let mut chance = Chance::of(match cut {
        Cut::Before | Cut::After => 0,
        Cut::Torn { at } => u64::from(at),
        Cut::Scattered { seed } => u64::from(seed),
    });
    let kept = match cut {
        Cut::Before => 0,
        Cut::After => dirty.len(),
        Cut::Torn { at } => dirty.len() * usize::from(at) / 65_536,
        Cut::Scattered { .. } => usize::MAX,
    };
    let mut seen = 0;
    for at in 0..length.div_ceil(SECTOR) {
        let is_dirty = dirty.get(seen) == Some(&at);
        let is_new = match cut {
            _ if !is_dirty => true,
            Cut::Scattered { .. } => chance.one_in(2),
            Cut::Before | Cut::After | Cut::Torn { .. } => seen < kept,
        };
        seen += usize::from(is_dirty);
        let bytes = sector(if is_new { after } else { before }, at);
        result.extend_from_slice(bytes);
        // A file that has grown past a sector which was not written holds zeros there.
        result.resize(((at + 1) * SECTOR).min(length), 0);
    }
    result
}

fn sector(bytes: &[u8], at: usize) -> &[u8] {
    let from = (at * SECTOR).min(bytes.len());
    let to = (from + SECTOR).min(bytes.len());
    &bytes[from..to]
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

const SECTOR: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(main: &[u8], log: &[u8]) -> Image {
        Image {
            main: main.to_vec(),
            log: log.to_vec(),
        }
    }

    #[test]
    fn a_cut_keeps_nothing_everything_or_a_part() {
        let before = image(&[0; 1024], &[]);
        let after = image(&[0; 1024], &[7; 2048]);
        let torn = |cut| Image::torn(&before, &after, cut, Order::LogFirst);
        assert_eq!(torn(Cut::Before), before);
        assert_eq!(torn(Cut::After), after);
        let half = torn(Cut::Torn { at: 32_768 }).log;
        assert_eq!((half[1023], half[1024]), (7, 0));
    }

    #[test]
    fn what_comes_after_a_flush_is_not_written_before_it() {
        let before = image(&[0; 4096], &[0; 4096]);
        let after = image(&[1; 4096], &[1; 4096]);
        for seed in 0..200 {
            let torn = Image::torn(&before, &after, Cut::Scattered { seed }, Order::FileFirst);
            let log_is_untouched = torn.log == before.log;
            assert!(log_is_untouched || torn.main == after.main, "seed {seed}");
        }
    }
}
