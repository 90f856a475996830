//! `crashkeep symbols list`.

use std::process::ExitCode;

use crate::appliance;
use crate::cli::common::Common;

pub(super) fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let symbol_store = appliance::symbol_store_to_read(&common.data);
    for id in symbol_store.debug_ids()? {
        let Some(module) = symbol_store.module(&id) else {
            continue;
        };
        let content = module.content();
        let has = |has: bool, word| if has { word } else { "-" };
        let conflicts = module.uploads.iter().filter(|u| u.conflict).count();
        let beside = match conflicts {
            0 => String::new(),
            n => format!("  ({n} different files stored but not used)"),
        };
        println!(
            "{id:<40} {:<9} {:<6} {:>12} {}{beside}",
            has(content.has_functions(), "functions"),
            has(content.has_unwind(), "unwind"),
            module.stored_bytes(),
            module.debug_file
        );
    }
    Ok(ExitCode::SUCCESS)
}
