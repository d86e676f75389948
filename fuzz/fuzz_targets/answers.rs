#![no_main]
libfuzzer_sys::fuzz_target!(|story: kms_fuzz::targets::answers::Story| kms_fuzz::targets::answers::check(&story));
