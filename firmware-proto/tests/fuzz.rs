//! Every input that the fuzz targets have kept.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

mod any;

#[track_caller]
fn check(target: &str, run: fn(&[u8])) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for file in fs::read_dir(&kept).unwrap() {
        run(&fs::read(file.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "nothing is kept in {}", kept.display());
}

#[test]
fn every_input_that_was_kept_is_taken() {
    check("frames", any::frames);
    check("device", any::device);
}

proptest! {
    #[test]
    fn any_input_is_taken(input in prop::collection::vec(any::<u8>(), 0..400)) {
        any::frames(&input);
        any::device(&input);
    }
}
