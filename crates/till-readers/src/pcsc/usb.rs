//! Why pcscd lists no reader although one may be plugged in.

use std::fs;
use std::path::Path;

use crate::ReaderFault;

/// Looks for readers that are plugged in but kept from pcscd; `sys` is where sysfs is mounted.
pub(super) fn diagnose(sys: &Path) -> ReaderFault {
    let mut fault = ReaderFault::NoReader;
    let Ok(devices) = fs::read_dir(sys.join("bus/usb/devices")) else {
        return fault;
    };
    for device in devices.flatten() {
        let id = |file: &str| fs::read_to_string(device.path().join(file)).unwrap_or_default();
        match (id("idVendor").trim(), id("idProduct").trim()) {
            ACR122U if sys.join("module/pn533_usb").is_dir() => fault = ReaderFault::KernelDriver,
            OMNIKEY_5427_AS_KEYBOARD => fault = ReaderFault::KeyboardMode,
            _ => {}
        }
    }
    fault
}

// USB vendor and product numbers (ACS and HID manuals).
const ACR122U: (&str, &str) = ("072f", "2200");
const OMNIKEY_5427_AS_KEYBOARD: (&str, &str) = ("076b", "5428");

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(vendor: &str, product: &str, module: &str, expect: ReaderFault) {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("bus/usb/devices/1-1");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("idVendor"), format!("{vendor}\n")).unwrap();
        fs::write(device.join("idProduct"), format!("{product}\n")).unwrap();
        fs::create_dir_all(sys.path().join("module").join(module)).unwrap();
        assert_eq!(diagnose(sys.path()), expect);
    }

    #[test]
    fn a_reader_that_is_kept_from_the_service_is_explained() {
        check("072f", "2200", "pn533_usb", ReaderFault::KernelDriver);
        check("072f", "2200", "usbcore", ReaderFault::NoReader);
        check("076b", "5428", "usbcore", ReaderFault::KeyboardMode);
        check("076b", "5427", "pn533_usb", ReaderFault::NoReader);
        assert_eq!(diagnose(Path::new("/nowhere")), ReaderFault::NoReader);
    }
}
