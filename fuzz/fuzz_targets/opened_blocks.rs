#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kms_fuzz::targets::opened_blocks::check(data));
