#![no_main]
libfuzzer_sys::fuzz_target!(|story: kms_fuzz::targets::opening::Story| kms_fuzz::targets::opening::check(&story));
