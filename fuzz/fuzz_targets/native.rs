//! The result for a program or debug file must be a symbol file that needs no repair, or a refusal. If a
//! second ELF file follows the first, it contains the other halves of its units.
#![no_main]

use crashkeep::symbols::native::{self, Found, OtherFiles};
use crashkeep::symbols::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let second = bytes.windows(4).rposition(|magic| magic == b"\x7fELF").filter(|&at| at > 0);
    let others = second.map_or(OtherFiles::Unknown, |at| OtherFiles::Known(&bytes[at..]));
    let mut output = Vec::new();
    if native::convert(bytes, others, "x", &mut output).is_err() {
        return;
    }
    let head = output.iter().position(|&byte| byte == b'\n').expect("a head") + 1;
    let found: Found = serde_json::from_slice(&output[..head]).expect("a head");
    let Found::Program(_) = found else {
        return;
    };
    let text = &output[head..];
    // A fat file yields several symbol files. Checking the first is enough.
    let end = text.windows(2).position(|pair| pair == b"\n{").map_or(text.len(), |at| at + 1);
    let checked = check::check(&mut &text[..end], &mut Vec::new()).expect("it can be taken");
    assert_eq!(checked.notes, [""; 0]);
});
