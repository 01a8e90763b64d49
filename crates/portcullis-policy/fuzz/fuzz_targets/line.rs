//! Looks for a line that the policy does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portcullis_policy_fuzz::line(input));
