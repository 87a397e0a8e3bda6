//! Rigs: which reader is on the bench.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use till_readers::{NumberFormat, ReaderConfig};

use crate::device::DeviceKind;
use crate::pcscd::Driver;

/// One file of `rigs/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rig {
    /// What it is called; also the file's name.
    pub name: String,
    /// The reader on it.
    pub reader: RigReader,
}

/// The reader of a rig.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RigReader {
    /// A virtual reader behind a pcscd of its own.
    VirtualPcsc {
        /// What pcscd calls it.
        friendly_name: String,
        /// Whose driver it has.
        #[serde(default)]
        driver: Driver,
    },
    /// A simulated reader behind a pseudo-terminal.
    VirtualSerial {
        /// Which kind of reader.
        device: DeviceKind,
    },
    /// A reader that types, in a virtual machine.
    VirtualKeyboard {},
    /// A reader that the machine's pcscd serves.
    Pcsc {
        /// A part of its name, as in the till's configuration.
        only: String,
        /// Vendor and product number in hex, with a colon between them.
        usb: String,
    },
    /// A reader on a serial line.
    Serial {
        /// The line.
        path: PathBuf,
        /// Which kind of reader; by default one that speaks the own protocol.
        #[serde(default)]
        device: DeviceKind,
    },
    /// A reader that types.
    Keyboard {
        /// The keyboard.
        path: PathBuf,
        /// Whether it types in hex, instead of decimals.
        is_hex: bool,
    },
}

impl Rig {
    /// Reads one rig file.
    pub fn load(file: &Path) -> anyhow::Result<Rig> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("understand {}", file.display()))
    }

    /// All rig files of this project, in order.
    pub fn files() -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("rigs"))? {
            files.push(entry?.path());
        }
        files.sort();
        Ok(files)
    }

    /// Whether it runs everywhere.
    pub fn is_virtual(&self) -> bool {
        match self.reader {
            RigReader::VirtualPcsc { .. }
            | RigReader::VirtualSerial { .. }
            | RigReader::VirtualKeyboard {} => true,
            RigReader::Pcsc { .. } | RigReader::Serial { .. } | RigReader::Keyboard { .. } => false,
        }
    }

    /// Why it cannot run now, if it cannot.
    pub fn missing(&self) -> Option<String> {
        match &self.reader {
            RigReader::VirtualPcsc { .. }
            | RigReader::VirtualSerial { .. }
            | RigReader::VirtualKeyboard {} => None,
            RigReader::Pcsc { usb, .. } => {
                let is_there = usb_ids(Path::new("/sys")).contains(usb);
                (!is_there).then(|| format!("no USB device {usb} is connected"))
            }
            RigReader::Serial { path, .. } | RigReader::Keyboard { path, .. } => {
                (!path.exists()).then(|| format!("there is no {}", path.display()))
            }
        }
    }

    /// How the till opens a real rig.
    pub fn config(&self) -> Option<ReaderConfig> {
        match &self.reader {
            RigReader::VirtualPcsc { .. }
            | RigReader::VirtualSerial { .. }
            | RigReader::VirtualKeyboard {} => None,
            RigReader::Pcsc { only, .. } => Some(ReaderConfig::Pcsc {
                only: Some(only.clone()),
            }),
            RigReader::Serial { path, device } => Some(device.config(path.clone())),
            RigReader::Keyboard { path, is_hex } => Some(ReaderConfig::Keyboard {
                path: path.clone(),
                format: NumberFormat {
                    is_hex: *is_hex,
                    ..NumberFormat::DECIMAL
                },
            }),
        }
    }
}

fn usb_ids(sys: &Path) -> Vec<String> {
    let Ok(devices) = fs::read_dir(sys.join("bus/usb/devices")) else {
        return Vec::new();
    };
    let id = |device: &Path, file| fs::read_to_string(device.join(file)).ok();
    let ids = devices.flatten().filter_map(|device| {
        let vendor = id(&device.path(), "idVendor")?;
        let product = id(&device.path(), "idProduct")?;
        Some(format!("{}:{}", vendor.trim(), product.trim()))
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rig_file_is_understood_and_called_like_its_rig() {
        let files = Rig::files().unwrap();
        assert!(files.len() >= 3);
        for file in files {
            let rig = Rig::load(&file).unwrap();
            assert_eq!(file.file_stem().unwrap().to_str(), Some(&*rig.name));
            assert_eq!(rig.config().is_none(), rig.is_virtual());
        }
    }

    #[test]
    fn a_connected_device_is_found_by_its_numbers() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("bus/usb/devices/1-2");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("idVendor"), "072f\n").unwrap();
        fs::write(device.join("idProduct"), "223b\n").unwrap();
        assert_eq!(usb_ids(sys.path()), ["072f:223b"]);
    }
}
