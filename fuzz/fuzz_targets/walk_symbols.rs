//! Walking any dump with any symbols must give JSON or an error.
//!
//! The first four bytes are the length of the symbol file, which precedes the dump. It is used for the
//! module in which the dump `linux-x86_64-null_read_av` crashed.
#![no_main]

use std::sync::LazyLock;

use crashkeep::stackwalk::{Mode, SymbolCache, WalkLimits, walk};
use crashkeep::symbols::SymbolDirs;
use libfuzzer_sys::fuzz_target;

const MODULE: &str = "null_read_av";
const DEBUG_ID: &str = "7B7D1968FF0D47AE4366E9C3A7E1B6750";

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk() else {
        return;
    };
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (symbols, dump) = rest.split_at(length);
    let place = FOLDER.path().join(MODULE).join(DEBUG_ID);
    std::fs::create_dir_all(&place).expect("a folder");
    let mut text = format!("MODULE Linux x86_64 {DEBUG_ID} {MODULE}\n").into_bytes();
    text.extend_from_slice(symbols);
    std::fs::write(place.join(format!("{MODULE}.sym")), text).expect("written");
    let cache = SymbolCache::new(SymbolDirs::new(vec![FOLDER.path().to_owned()]), 1 << 20);
    if let Ok(json) = walk(dump, &cache, &WalkLimits::stored(16 << 20), Mode::True) {
        let _: crashkeep::crash::walk::Walk = serde_json::from_slice(&json).expect("its own JSON");
    }
});
