#![no_main]
libfuzzer_sys::fuzz_target!(|plan: kms_fuzz::targets::share_file::Plan| kms_fuzz::targets::share_file::check_built(
    &plan
));
