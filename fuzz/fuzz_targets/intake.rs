//! A body for any endpoint, with any encoding, must become a report or a refusal, complete or in pieces.
#![no_main]

use crashkeep::ingest::{Endpoint, Intake, IntakeLimits, SubmitHead};
use libfuzzer_sys::fuzz_target;

fn take(head: &SubmitHead, body: &[u8], step: usize) -> bool {
    let limits = IntakeLimits {
        report_bytes_max: 1 << 20,
        inflated_bytes_max: 4 << 20,
        ratio_max: 100,
    };
    let Ok(mut intake) = Intake::begin(head.clone(), limits, &std::env::temp_dir()) else {
        return false;
    };
    for piece in body.chunks(step) {
        if intake.feed(piece).is_err() {
            return false;
        }
    }
    intake.finish().is_ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let (endpoint, content_type) = match kind % 5 {
        0 => (Endpoint::Submit, "multipart/form-data; boundary=b"),
        1 => (Endpoint::Submit, "application/octet-stream"),
        2 => (Endpoint::SentryMinidump, "multipart/form-data; boundary='b'"),
        3 => (Endpoint::SentryEnvelope, ""),
        _ => (Endpoint::SentryUnreal, ""),
    };
    let head = SubmitHead {
        endpoint,
        content_type: Some(content_type.to_owned()),
        content_encoding: (kind & 0x80 != 0).then(|| "gzip".to_owned()),
        ..SubmitHead::default()
    };
    // The permitted growth depends on the bytes received so far, so the two results may differ.
    take(&head, body, body.len().max(1));
    take(&head, body, 7);
});
