//! `crashkeep reindex`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::common::Common;
use crate::appliance;

/// Interval between two progress messages.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let config = common.config()?;
    let begun = Instant::now();
    let mut told = begun;
    let built = appliance::reindex(&config, &common.data, |building| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("{} of {} crashes", building.rows, building.rows_total);
        }
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} crashes indexed in {seconds:.1} s", built.rows);
    Ok(ExitCode::SUCCESS)
}
