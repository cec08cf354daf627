#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freqcap_fuzz::run("owner", bytes));
