//! A connection in pieces reads as the whole does, and nothing that follows a refusal gets through.
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
    // What was let through reads as itself: there is one form.
    let (out, is_over) = whole;
    if !is_over {
        assert_eq!(taken(&out, out.len().max(1)).0, out);
    }
    let marker = REFUSED_HEADER.as_bytes();
    let marks = out.windows(marker.len()).filter(|window| window == &marker).count();
    let sent = bytes.windows(marker.len()).filter(|window| window.eq_ignore_ascii_case(marker)).count();
    assert!(marks <= sent + 1);
});
