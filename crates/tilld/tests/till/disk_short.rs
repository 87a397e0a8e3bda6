//! The disk gets short, and has room again, on a small file system of the till's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::rig::{Site, WEEKLY, Wishes};

/// Writes so many MiB.
fn fill(path: &Path, mib: usize) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let block = vec![1; 1 << 16];
    for _ in 0..mib << 4 {
        file.write_all(&block).unwrap();
    }
}

fn notices(shown: &Value) -> Vec<&str> {
    let notices = shown["notices"].as_array().unwrap();
    notices
        .iter()
        .filter_map(|it| it["runbook"].as_str())
        .collect()
}

#[test]
fn sync_24_ballast_is_given_up_on_a_short_disk_so_that_sales_go_on_and_comes_back() {
    let site = Site::open_with(Wishes {
        disk_mib: Some(40),
        ..Wishes::default()
    });
    let state = site.till_state();
    assert_eq!(fs::metadata(state.join("ballast")).unwrap().len(), 4 << 20);
    assert!(notices(&site.shown()).is_empty());

    // 8 MiB, twice the ballast, must stay free.
    let free = nix::sys::statvfs::statvfs(&state).unwrap();
    let free = (free.blocks_available() * free.fragment_size()) >> 20;
    let filler = state.join("filler");
    fill(&filler, usize::try_from(free).unwrap() - 5);
    site.wait_for_shown("the notice of the short disk", |shown| {
        notices(shown) == ["full-disk"]
    });
    assert!(!state.join("ballast").exists());
    let alarms = site.status()["alarms"].to_string();
    assert!(alarms.contains("runbook/full-disk.md"), "{alarms}");
    let chip = site.lay_and_wait(WEEKLY);
    let sale = site.sell_to_laid(&["1x Frugt 0,50"], None);
    assert!(sale.is_approved(), "{sale:?}");

    fs::remove_file(&filler).unwrap();
    let sale = site.sell_to_laid(&["1x Frugt 0,50"], None);
    assert!(sale.is_approved(), "{sale:?}");
    chip.remove();
    site.wait_for_shown("the notice to go", |shown| notices(shown).is_empty());
    assert!(state.join("ballast").exists());
    site.wait_until_agreed();
}
