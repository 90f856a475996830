//! A body in pieces must give the same result as the complete body.
#![no_main]

use crashkeep::multipart::{Multipart, PartHead, PartSink};
use libfuzzer_sys::fuzz_target;

#[derive(Default, PartialEq, Debug)]
struct Parts(Vec<(PartHead, Vec<u8>)>);

impl PartSink for Parts {
    type Error = ();
    fn begin(&mut self, head: PartHead) -> Result<(), ()> {
        self.0.push((head, Vec::new()));
        Ok(())
    }
    fn data(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.last_mut().expect("a part has begun").1.extend_from_slice(bytes);
        Ok(())
    }
    fn end(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

fn parse(body: &[u8], step: usize) -> Option<Parts> {
    let mut parser = Multipart::new("b");
    let mut parts = Parts::default();
    for piece in body.chunks(step) {
        parser.feed(piece, &mut parts).ok()?;
    }
    parser.finish::<()>().ok()?;
    Some(parts)
}

fuzz_target!(|body: &[u8]| {
    let whole = parse(body, body.len().max(1));
    for step in [1, 3, 17] {
        assert_eq!(parse(body, step), whole);
    }
});
