#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| till_readers::fuzz::acr122(input));
