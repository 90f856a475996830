//! `crashkeep signature`: computes signatures without a server.
//!
//! Input on stdin: one siggen-input JSON object per line. Output on stdout, in the same order: one line per
//! crash with the signature, or with an object if `--json` is given. An invalid line yields an empty line,
//! an error with its number on stderr, and exit code 1 after all lines are processed.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::child;
use crate::signature::{CrashData, Generator, Lists, Ruleset, Signature};

/// Bytes of one read. The complete lines in it are a batch.
const BATCH_BYTES: usize = 1 << 18;
/// Batches that may wait before each worker, and after it.
const WAITING_BATCHES_MAX: usize = 2;
const WORKERS_MAX: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// `socorro` gives exactly siggen's results; `crashkeep` fixes some of them, see docs/signatures.md
    #[arg(long, default_value = "socorro")]
    ruleset: Ruleset,
    /// Folder with signature lists to use instead of the built-in lists
    #[arg(long, value_name = "DIR")]
    lists: Option<PathBuf>,
    /// Print JSON lines: signature, notes, proto_signature
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lists = match &args.lists {
        Some(folder) => Lists::load(folder)?,
        None => Lists::builtin(),
    };
    let generator = Generator::new(args.ruleset, Arc::new(lists));
    let workers = thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(WORKERS_MAX);
    let (input, mut output) = (std::io::stdin(), std::io::stdout());
    child::widen(&input);
    child::widen(&output);
    let is_clean = name_all(&generator, args.json, workers, input, &mut output)?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The result of a batch.
struct Named {
    output: Vec<u8>,
    lines: u64,
    /// The number of the line within the batch, from 0, and the error.
    errors: Vec<(u64, String)>,
}

/// Computes the signature of every line. Returns true if all lines were valid.
///
/// A reader distributes batches to the workers in turn, and the results are collected in the same order. So
/// batches need no numbers, and a full channel blocks the side that is ahead. A batch is the result of one
/// read. So a program that writes line by line gets its answers line by line.
fn name_all(
    generator: &Generator,
    is_json: bool,
    workers: usize,
    input: impl Read + Send,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    thread::scope(|scope| {
        let mut to_workers = Vec::new();
        let mut from_workers = Vec::new();
        for number in 0..workers {
            let (to_worker, batches) = sync_channel::<Vec<u8>>(WAITING_BATCHES_MAX);
            let (done, from_worker) = sync_channel::<Named>(WAITING_BATCHES_MAX);
            thread::Builder::new()
                .name(format!("name-{number}"))
                .spawn_scoped(scope, move || {
                    let generator = generator.remembering();
                    for batch in batches {
                        if done.send(name_batch(&generator, is_json, &batch)).is_err() {
                            break;
                        }
                    }
                })?;
            to_workers.push(to_worker);
            from_workers.push(from_worker);
        }
        let reader = thread::Builder::new()
            .name("read".to_string())
            .spawn_scoped(scope, move || read_batches(input, &to_workers))?;
        let written = write_named(from_workers, output);
        // The receivers no longer exist, so a reader that is still running stops at its next batch.
        match reader.join() {
            Ok(read) => read?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        written
    })
}

/// Distributes the input to the workers, until it ends or the workers stop.
fn read_batches(mut input: impl Read, to_workers: &[SyncSender<Vec<u8>>]) -> std::io::Result<()> {
    // The incomplete line at the end of the previous batch.
    let mut rest = Vec::new();
    for worker in to_workers.iter().cycle() {
        let mut lines = std::mem::take(&mut rest);
        let is_last = loop {
            let begin = lines.len();
            lines.resize(begin + BATCH_BYTES, 0);
            let count = read(&mut input, &mut lines[begin..])?;
            lines.truncate(begin + count);
            if count == 0 {
                break true;
            }
            if let Some(at) = memchr::memrchr(b'\n', &lines[begin..]) {
                rest = lines.split_off(begin + at + 1);
                break false;
            }
        };
        if !lines.is_empty() && worker.send(lines).is_err() {
            break;
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

fn read(input: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match input.read(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes the results of the workers, in order.
fn write_named(
    from_workers: Vec<Receiver<Named>>,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut is_clean = true;
    let mut first_line = 1;
    for worker in from_workers.iter().cycle() {
        let Ok(named) = worker.recv() else { break };
        output.write_all(&named.output)?;
        output.flush()?;
        for (at, error) in &named.errors {
            eprintln!("crashkeep: line {}: {error}", first_line + at);
            is_clean = false;
        }
        first_line += named.lines;
    }
    Ok(is_clean)
}

fn name_batch(generator: &Generator, is_json: bool, batch: &[u8]) -> Named {
    let mut named = Named {
        output: Vec::with_capacity(batch.len() / 4),
        lines: 0,
        errors: Vec::new(),
    };
    let mut rest = batch;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        match name(generator, &rest[..end]) {
            Ok(signature) if is_json => named.output.extend(json(&signature).as_bytes()),
            Ok(signature) => named.output.extend(signature.text.as_bytes()),
            Err(error) => named.errors.push((named.lines, format!("{error:#}"))),
        }
        named.output.push(b'\n');
        named.lines += 1;
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    named
}

fn name(generator: &Generator, line: &[u8]) -> anyhow::Result<Signature> {
    let data = CrashData::parse(std::str::from_utf8(line)?)?;
    Ok(generator.generate(&data))
}

fn json(signature: &Signature) -> String {
    let mut object = serde_json::json!({
        "signature": signature.text,
        "notes": signature.notes,
    });
    if let Some(proto) = &signature.proto {
        object["proto_signature"] = proto.as_str().into();
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator::new(Ruleset::Socorro, Arc::new(Lists::builtin()))
    }

    #[test]
    fn a_line_that_is_not_json_leaves_an_empty_line_and_the_count_holds() {
        let lines = "{}\nnot json\n[]\n\n{\"hang\":\"ui\"}";
        let mut output = Vec::new();
        let is_clean = name_all(&generator(), false, 2, lines.as_bytes(), &mut output).unwrap();
        assert!(!is_clean);
        let empty = "EMPTY: no frame data available";
        let expected = format!("{empty}\n\n\n\nhang: ui | {empty}\n");
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn many_workers_keep_the_order_of_the_lines() {
        let line = |number: usize| format!("{{\"java_stack_trace\":\"a: b\\n{number}\"}}\n");
        let lines: String = (0..20_000).map(line).collect();
        let expected: String = (0..20_000)
            .map(|number| format!("a: b {number}\n"))
            .collect();
        for workers in [1, 3] {
            let mut output = Vec::new();
            let input = lines.as_bytes();
            assert!(name_all(&generator(), false, workers, input, &mut output).unwrap());
            assert_eq!(String::from_utf8(output).unwrap(), expected);
        }
    }

    #[test]
    fn an_output_that_closes_ends_the_command() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = "{}\n".repeat(1_000_000);
        assert!(name_all(&generator(), false, 2, lines.as_bytes(), &mut Closed).is_err());
    }

    #[test]
    fn json_output_has_the_proto_signature_only_if_there_is_one() {
        let generator = generator();
        let check = |line: &str, expected: &str| {
            assert_eq!(json(&name(&generator, line.as_bytes()).unwrap()), expected);
        };
        check(
            r#"{"threads":[{"frames":[{"function":"f"}]}]}"#,
            r#"{"signature":"f","notes":[],"proto_signature":"f"}"#,
        );
        check(
            r#"{"java_stack_trace":"a: b\nc"}"#,
            r#"{"signature":"a: b c","notes":[]}"#,
        );
    }
}
