#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = crashkeep::config::Config::parse("fuzz", text);
});
