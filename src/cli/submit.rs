//! `crashkeep submit`: uploads a report, as a client would.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::client::{Form, Sent};
use crate::crash::raw::MAIN_DUMP;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The collector, such as https://crashes.example.org/submit
    url: String,
    /// Minidump, sent as upload_file_minidump or as NAME; can be repeated
    #[arg(long = "dump", value_name = "[NAME=]FILE", required = true)]
    dumps: Vec<String>,
    /// Annotation; can be repeated
    #[arg(short = 'a', long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut form = Form::new();
    for annotation in &args.annotations {
        let Some((key, value)) = annotation.split_once('=') else {
            bail!("annotation {annotation:?} is not KEY=VALUE");
        };
        if key.is_empty() {
            bail!("annotation {annotation:?} has no key before the =");
        }
        form.part(key, None, value.as_bytes());
    }
    for dump in &args.dumps {
        let (name, path) = named_file(dump);
        let shown = || path.display().to_string();
        let file = File::open(&path).with_context(shown)?;
        let file_name = path
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        form.file(&name, &file_name, file).with_context(shown)?;
    }
    let (status, answer) = crate::client::ask(&args.url, Sent::Form(form), None)?;
    if status != 200 {
        let start: String = answer.trim().chars().take(300).collect();
        bail!("{} answered with status {status}: {start}", args.url);
    }
    print!("{answer}");
    Ok(ExitCode::SUCCESS)
}

/// Splits `NAME=FILE`. A text without a name is only a file, also if its path contains `=`.
fn named_file(text: &str) -> (String, PathBuf) {
    let named = text.split_once('=').filter(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    match named {
        Some((name, path)) => (name.to_owned(), path.into()),
        None => (MAIN_DUMP.to_owned(), text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_may_carry_a_name_and_its_path_an_equals_sign() {
        let check = |text: &str, name: &str, path: &str| {
            assert_eq!(
                named_file(text),
                (name.to_owned(), PathBuf::from(path)),
                "{text}"
            );
        };
        check("x.dmp", MAIN_DUMP, "x.dmp");
        check(
            "upload_file_minidump_browser=b.dmp",
            "upload_file_minidump_browser",
            "b.dmp",
        );
        check("./a=b/x.dmp", MAIN_DUMP, "./a=b/x.dmp");
    }
}
