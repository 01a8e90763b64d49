//! Looks for a rulebook that its reader does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| portcullis_policy_fuzz::rulebook(input));
