//! The bytes of a connection in pieces must give the same result as all bytes at once. Nothing after a
//! refusal must get through.
#![no_main]

use crashkeep::http::head::{Heads, REFUSED_HEADER};
use libfuzzer_sys::fuzz_target;

fn taken(bytes: &[u8], step: usize) -> (Vec<u8>, bool) {
    let (mut heads, mut out) = (Heads::default(), Vec::new());
    for piece in bytes.chunks(step) {
        heads.take(piece, &mut out);
    }
    (out, heads.is_over())
}

fuzz_target!(|bytes: &[u8]| {
    let whole = taken(bytes, bytes.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(taken(bytes, step), whole);
    }
    // The output is in the normal form, so reading it again must not change it.
    let (out, is_over) = whole;
    if !is_over {
        assert_eq!(taken(&out, out.len().max(1)).0, out);
    }
    let marker = REFUSED_HEADER.as_bytes();
    let marks = out.windows(marker.len()).filter(|window| window == &marker).count();
    let sent = bytes.windows(marker.len()).filter(|window| window.eq_ignore_ascii_case(marker)).count();
    assert!(marks <= sent + 1);
});
