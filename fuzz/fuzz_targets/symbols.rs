//! Every upload of symbols must get a verdict. What is stored must be valid: the check must accept its own
//! output unchanged.
#![no_main]

use std::io::{Read, Write};

use crashkeep::symbols::arrival::Receiver;
use crashkeep::symbols::converter::Converter;
use crashkeep::symbols::{Bounds, Conflict, SymbolStore, check};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds {
    inflated_bytes_max: 1 << 20,
    ratio_max: 200,
    free_bytes: 1 << 16,
    entries_max: 100,
};

fuzz_target!(|body: &[u8]| {
    let mut text = Vec::new();
    if check::check(&mut &*body, &mut text).is_ok() {
        let mut again = Vec::new();
        let checked = check::check(&mut &*text, &mut again).expect("our own text is good");
        assert_eq!((again, checked.notes), (text, Vec::<String>::new()));
    }
    let root = tempfile::tempdir().expect("a folder");
    let symbol_store = SymbolStore::new(root.path().join("symbols"), root.path().to_path_buf());
    std::fs::create_dir(root.path().join("symbols")).expect("a folder");
    let mut file = symbol_store.incoming_file().expect("a file");
    file.write_all(body).expect("written");
    let receiver = Receiver {
        symbol_store: &symbol_store,
        // Programs have their own fuzz target. Here none is converted.
        converter: &Converter::new("/nonexistent".into()),
        bounds: BOUNDS,
        conflict: Conflict::Replace,
        now_ms: 0,
    };
    let arrival = receiver.take(file, "x").expect("kept");
    for taken in arrival.verdicts.iter().filter_map(|verdict| verdict.result.as_ref().ok()) {
        let module = &taken.module;
        let mut found = symbol_store.open(&module.debug_id).expect("it is there");
        let mut bytes = Vec::new();
        found.reader.read_to_end(&mut bytes).expect("readable");
        assert!(bytes.starts_with(b"MODULE "));
        assert!(found.bytes.is_none_or(|length| length == bytes.len() as u64));
    }
});
