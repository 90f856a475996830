//! What a program or debug file is turned into is a symbol file that needs no repair, or it is
//! refused.
#![no_main]

use crashkeep::symbols::{check, native};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut output = Vec::new();
    if native::convert(bytes, "x", &mut output).is_err() {
        return;
    }
    let head = output.iter().position(|&byte| byte == b'\n').expect("a head") + 1;
    let text = &output[head..];
    // A fat file has several; the first is enough.
    let end = text.windows(2).position(|pair| pair == b"\n{").map_or(text.len(), |at| at + 1);
    let checked = check::check(&mut &text[..end], &mut Vec::new()).expect("it can be taken");
    assert_eq!(checked.notes, [""; 0]);
});
