//! `crashkeep signature`: names crashes without a server.
//!
//! One siggen-input JSON object per line on stdin, one line per crash on stdout in the same order:
//! the signature, or with `--json` an object. A line that cannot be read gives an empty line, an
//! error with its number on stderr, and exit code 1 once all lines are through.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::signature::{CrashData, Generator, Lists, Ruleset, Signature};

const BUFFER_BYTES: usize = 1 << 16;

#[derive(clap::Args)]
pub struct Args {
    /// `socorro` is siggen's parity; `crashkeep` names frames without a function by module@offset
    #[arg(long, default_value = "socorro")]
    ruleset: Ruleset,
    /// A folder with signature lists, instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    lists: Option<PathBuf>,
    /// Print JSON lines: signature, notes, proto_signature
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lists = match &args.lists {
        Some(folder) => Lists::load(folder)?,
        None => Lists::builtin(),
    };
    let generator = Generator::new(args.ruleset, Arc::new(lists));
    let mut input = BufReader::with_capacity(BUFFER_BYTES, std::io::stdin().lock());
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock());
    let is_clean = name_all(&generator, args.json, &mut input, &mut output)?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Names every line; says whether all could be read.
fn name_all(
    generator: &Generator,
    is_json: bool,
    input: &mut BufReader<impl std::io::Read>,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut line = Vec::new();
    let mut is_clean = true;
    for number in 1u64.. {
        if input.buffer().is_empty() {
            // About to wait for more: whoever reads along should have what is done.
            output.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match name(generator, &line) {
            Ok(signature) if is_json => write_json(&signature, output)?,
            Ok(signature) => output.write_all(signature.text.as_bytes())?,
            Err(error) => {
                eprintln!("crashkeep: line {number}: {error:#}");
                is_clean = false;
            }
        }
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(is_clean)
}

fn name(generator: &Generator, line: &[u8]) -> anyhow::Result<Signature> {
    let data = CrashData::parse(std::str::from_utf8(line)?)?;
    Ok(generator.generate(&data))
}

fn write_json(signature: &Signature, output: &mut impl Write) -> anyhow::Result<()> {
    let mut object = serde_json::json!({
        "signature": signature.text,
        "notes": signature.notes,
    });
    if let Some(proto) = &signature.proto {
        object["proto_signature"] = proto.as_str().into();
    }
    serde_json::to_writer(output, &object)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_json_leaves_an_empty_line_and_the_count_holds() {
        let generator = Generator::new(Ruleset::Socorro, Arc::new(Lists::builtin()));
        let lines = "{}\nnot json\n[]\n\n{\"hang\":\"ui\"}";
        let mut output = Vec::new();
        let mut input = BufReader::new(lines.as_bytes());
        let is_clean = name_all(&generator, false, &mut input, &mut output).unwrap();
        assert!(!is_clean);
        let empty = "EMPTY: no frame data available";
        let expected = format!("{empty}\n\n\n\nhang: ui | {empty}\n");
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn json_output_has_the_proto_signature_only_if_there_is_one() {
        let generator = Generator::new(Ruleset::Socorro, Arc::new(Lists::builtin()));
        let check = |line: &str, expected: &str| {
            let mut output = Vec::new();
            write_json(&name(&generator, line.as_bytes()).unwrap(), &mut output).unwrap();
            assert_eq!(String::from_utf8(output).unwrap(), expected);
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
