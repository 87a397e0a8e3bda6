#![no_main]

#[allow(dead_code)]
#[path = "../../tests/any/mod.rs"]
mod any;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any::device(input));
