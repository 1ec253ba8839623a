#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edgesync_fuzzing::run("snapshot", input));
