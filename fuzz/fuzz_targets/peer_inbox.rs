#![no_main]
libfuzzer_sys::fuzz_target!(|events: Vec<kms_fuzz::targets::peer_inbox::Event>| kms_fuzz::targets::peer_inbox::check(
    &events
));
