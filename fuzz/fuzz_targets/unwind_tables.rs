//! Tables that only programs of some kinds have: any bytes are read within limits.
#![no_main]

use crashkeep::symbols::native;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    native::read_tables(bytes);
});
